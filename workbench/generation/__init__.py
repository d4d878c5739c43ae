"""Generation: sampling under one trace, steered, with a receipt; and the take that comes out."""
