"""What a graph of units is made of: declared, checked, put in order, exchanged with others."""
