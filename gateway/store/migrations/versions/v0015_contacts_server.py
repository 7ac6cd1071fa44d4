"""The server of a contact, so that it is known as one that is dealt with.

Revision ID: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("contacts", sa.Column("server", sa.String(), nullable=False, server_default=""))
    op.create_index("ix_contacts_server", "contacts", ["server"], unique=False)
    contacts = sa.table("contacts", sa.column("address"), sa.column("server"))
    connection = op.get_bind()
    for address in connection.execute(sa.select(contacts.c.address).distinct()).scalars().all():
        server = address.rpartition("@")[2]
        connection.execute(sa.update(contacts).where(contacts.c.address == address).values(server=server))
