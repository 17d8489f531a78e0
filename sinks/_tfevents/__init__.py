"""TensorBoard's event files: checksums, messages, files and what becomes of each event.

An event file is a sequence of records: length (8 bytes), masked CRC-32C of the length (4), payload, masked
CRC-32C of the payload (4), all little-endian. A payload is a protobuf message `Event`. Only what the
`tensorboard` sink writes is encoded here, so that neither TensorFlow nor torch nor protobuf is needed.
"""
