"""A shop that writes an invoice for every order, in the background."""

import os
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from flask import Flask, request
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from jobplatform.api import JobPlatform
from jobplatform.models import make_engine
from jobplatform.queue import RunningJob, Tasks

tasks = Tasks()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID]
    item: Mapped[str]
    invoice: Mapped[str | None]


@dataclass(frozen=True)
class InvoicePayload:
    order_id: int


@tasks.task("write_invoice", max_attempts=5, timeout=timedelta(minutes=2), unique=lambda p: str(p.order_id))
def write_invoice(job: RunningJob, payload: InvoicePayload) -> None:
    order = job.session.get_one(Order, payload.order_id)
    job.progress(1, total=2, message="writing")
    order.invoice = f"INV-{order.id:05} for {order.item}"
    job.complete_in(job.session, {"invoice": order.invoice})  # the row and the completion: one commit


def create_app() -> Flask:
    engine = make_engine(os.environ["DATABASE_URL"])
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    app = Flask(__name__)
    JobPlatform(app, tasks, sessions=sessions)  # GET /api/workspaces/<id>/jobs/<id>, and the rest of the API

    @app.post("/shop/<uuid:workspace_id>/orders")
    def place_order(workspace_id: UUID) -> tuple[dict[str, object], int]:
        with sessions.begin() as session:
            order = Order(workspace_id=workspace_id, item=request.json["item"])
            session.add(order)
            session.flush()
            job = write_invoice.enqueue(session, InvoicePayload(order.id), workspace_id=workspace_id)
            return {"orderId": order.id, "jobId": str(job.job_id)}, 202  # both rows, or neither

    return app
