"""Generation: sampling under one nnsight trace, steered, with a receipt; and the take that comes out.

`generate` takes requests, `engine` draws batches, `edits` lays plans out as edits of rows, and in `steer` the
vector enters the residual stream. `receipt` says what really changed, `take` keeps it all, `live` never ends.
"""
