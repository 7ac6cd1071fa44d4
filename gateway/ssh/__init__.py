"""The SSH door: SFTP and SCP over the same Grants and the same tree as every other door; nothing else of SSH.

asyncssh does the transport: key exchange, log-in, channels. What is said on a channel is ours.
"""
