"""`python -m gateway` is `ocm-gateway`."""

from gateway.cli import main

main()
