"""Which algorithms the door offers: those without a known weakness, and strict key exchange, which asyncssh adds.

Strict key exchange (OpenSSH's PROTOCOL, section 1.10) is what makes ChaCha20 and encrypt-then-MAC safe from Terrapin
(CVE-2023-48795). SHA-1, CBC, DSA and everything without encryption are left out, and so is Diffie-Hellman over finite
fields, as in OpenSSH 10's server: strangers could make the loop stand still with it (CVE-2002-20001; 16 ms for one
exchange in group 18, and 1 ms on a curve). README has the list.
"""

KEY_EXCHANGE = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
ENCRYPTION = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-256",
    "rsa-sha2-512",
)
