"""Predictions and feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("model_version", sa.String(12), nullable=False),
        sa.Column("digit", sa.SmallInteger, nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),
        sa.Column("abstained", sa.Boolean, nullable=False),
        sa.Column("image", sa.LargeBinary, nullable=False),
        sa.Column("tag", sa.Text),
    )
    op.create_index("predictions_time", "predictions", ["time"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("prediction_id", sa.String(32), nullable=False),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
    )
    op.create_index("feedback_prediction", "feedback", ["prediction_id"])


def downgrade() -> None:
    op.drop_table("feedback")
    op.drop_table("predictions")
