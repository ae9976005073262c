"""Who asked and who labelled, and how; what `pipelines.watch` has seen."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("predictions", sa.Column("caller", sa.String(16)))
    op.add_column("feedback", sa.Column("by", sa.String(16)))
    op.add_column("feedback", sa.Column("role", sa.String(16), nullable=False, server_default="caller"))
    op.add_column("feedback", sa.Column("asked", sa.String(16), nullable=False, server_default="volunteered"))
    op.add_column("feedback", sa.Column("seconds", sa.Float))
    op.add_column("feedback", sa.Column("blind", sa.Boolean))
    op.create_table(
        "watch",
        sa.Column("model_version", sa.String(12), primary_key=True),
        sa.Column("prediction_cursor", sa.String(32), nullable=False),
        sa.Column("label_cursor", sa.String(32), nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("updated", sa.Float(53), nullable=False),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("model_version", sa.String(12), nullable=False),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("statistic", sa.String(32), nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("alarms_model", "alarms", ["model_version", "time"])


def downgrade() -> None:
    op.drop_table("alarms")
    op.drop_table("watch")
    for column in ("blind", "seconds", "asked", "role", "by"):
        op.drop_column("feedback", column)
    op.drop_column("predictions", "caller")
