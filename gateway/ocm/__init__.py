"""The protocol core for the OCM API 1.5.0, draft-ietf-ocm-open-cloud-mesh-07: messages in, values out, and back.

The law of this package: no I/O, no clock, no randomness. Time, keys and tokens are arguments, and an answer is a
value or a ProtocolError. It imports the standard library and the libraries for keys, signatures and structured
fields, and nothing else of the gateway.

camelCase exists only here, in what parses and serialises; everybody else uses the draft's words in snake_case.
A parser takes whatever JSON a peer can send and raises ProtocolError for what it cannot use, never anything else.
A serialiser raises ValueError when asked for a message that the draft forbids to send: that is a mistake of ours.
"""
