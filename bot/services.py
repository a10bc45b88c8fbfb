"""What one bot is made of, and how it is put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.commands.admission import Admission
from bot.commands.casework import Casework
from bot.commands.catalogue import Catalogue
from bot.commands.changing import Changing
from bot.commands.personal_data import PersonalData
from bot.errors import SettingsError
from bot.jobs.changes import Changes
from bot.jobs.checkpoints import Checkpoints
from bot.jobs.closures import Closures
from bot.jobs.crowd import Crowd
from bot.jobs.delivery import Delivery, Encoding, Rendered
from bot.jobs.dispatcher import Dispatcher
from bot.jobs.measures import Measures
from bot.jobs.model import JobSnapshot
from bot.jobs.progress import ProgressBoard
from bot.jobs.promises import Promises
from bot.jobs.queue import JobQueue
from bot.jobs.quota import Policy, Quotas
from bot.jobs.samples import Samples
from bot.jobs.service import JobService
from bot.jobs.shelving import Shelving
from bot.jobs.switching import Switching
from bot.moderation.audit_log import AuditLog
from bot.moderation.classifier import ClassifierProcess
from bot.moderation.judging import Judging
from bot.moderation.prompt_rules import ServerRules
from bot.moderation.restrictions import Restrictions
from bot.moderation.rules import PromptRules
from bot.moderation.servers import Servers
from bot.moderation.tracing import Tracing
from bot.settings import Settings
from bot.storage.images import ImageStore
from bot.storage.session import Database
from bot.views import job as job_view
from t2i.engine.client import LocalEngine
from t2i.provenance import Certificate, CertificateError, Signer, create, load
from t2i.provenance.certificate import KEY

if TYPE_CHECKING:
    from bot.client import ImagineBot


@dataclass(frozen=True, slots=True)
class Services:
    """What the commands work with, and the dispatcher that draws."""

    dispatcher: Dispatcher
    jobs: JobService
    catalogue: Catalogue
    admission: Admission
    quotas: Quotas
    checkpoints: Checkpoints
    changing: Changing
    shelving: Shelving
    samples: Samples
    judging: Judging
    servers: Servers
    server_rules: ServerRules
    prompt_rules: PromptRules
    casework: Casework
    audit_log: AuditLog
    personal_data: PersonalData
    tracing: Tracing
    roots: str
    """Certificates in PEM whose pictures count as made here."""


def wire(
    bot: ImagineBot,
    settings: Settings,
    database: Database,
    engine: LocalEngine,
    classifier: ClassifierProcess | None,
) -> Services:
    """Put a bot together; nothing is started. Raises SettingsError when the certificate cannot be used."""
    queue = JobQueue(database, running_per_user=settings.running_per_user, queued_per_user=settings.queued_per_user)
    checkpoints = Checkpoints(database)
    store = ImageStore(settings.data_dir / "images")

    certificate = _certificate(settings)
    signer = Signer(certificate)

    def render(snapshot: JobSnapshot, images: Mapping[int, bytes], encoding: Encoding) -> Rendered:
        named = (info for info in engine.checkpoints() if info.name == snapshot.job.checkpoint)
        return job_view.render(snapshot, images, encoding, next(named, None), signer)

    servers = Servers(database)
    judging = Judging(
        database,
        servers,
        classifier,
        age_restricted=bot.is_age_restricted,
        accepts_unjudged=settings.accept_unjudged is not None,
    )
    board = ProgressBoard(queue, judging)
    crowd = Crowd(lambda: engine.pid, lambda: None if classifier is None else classifier.pid)
    delivery = Delivery(bot, queue, board, store, render, crowd=crowd, progress_interval=settings.progress_interval)
    dispatcher = Dispatcher(
        engine=engine,
        queue=queue,
        checkpoints=checkpoints,
        images=store,
        board=board,
        delivery=delivery,
        judge=judging,
        crowd=crowd,
    )
    policy = Policy(
        role_weights=settings.role_weights,
        user_limit=settings.quota_per_user,
        role_limits=settings.quota_per_role,
        guild_limit=settings.quota_per_server,
    )
    jobs = JobService(
        queue=queue,
        checkpoints=checkpoints,
        images=store,
        board=board,
        delivery=delivery,
        dispatcher=dispatcher,
        closures=Closures(database),
        policy=policy,
    )
    server_rules = ServerRules(database)
    prompt_rules = PromptRules(server_rules, settings.blocked_words)
    catalogue = Catalogue(checkpoints, settings.checkpoint, engine.shelf)
    measures, changes = Measures(database), Changes(database)
    switching = Switching(
        engine=engine, checkpoints=checkpoints, changes=changes, measures=measures, default=settings.checkpoint
    )
    shelving = Shelving(engine=engine, checkpoints=checkpoints, turn=switching.turn, default=settings.checkpoint)
    return Services(
        dispatcher=dispatcher,
        jobs=jobs,
        catalogue=catalogue,
        admission=Admission(
            jobs,
            catalogue,
            crowd=crowd,
            promises=Promises(settings.data_dir / "promises"),
            judging=judging,
            rules=prompt_rules,
            restrictions=Restrictions(database),
            servers=servers,
        ),
        quotas=Quotas(database, policy),
        checkpoints=checkpoints,
        changing=Changing(
            bot,
            changes=changes,
            checkpoints=checkpoints,
            switching=switching,
            shelving=shelving,
            catalogue=catalogue,
            judging=judging,
        ),
        shelving=shelving,
        samples=Samples(engine, measures, settings.data_dir / "samples"),
        judging=judging,
        servers=servers,
        server_rules=server_rules,
        prompt_rules=prompt_rules,
        casework=Casework(bot, database, store),
        audit_log=AuditLog(database),
        personal_data=PersonalData(bot, database, store, jobs, retention_days=settings.retention_days),
        tracing=Tracing(database),
        roots=certificate.roots,
    )


def _certificate(settings: Settings) -> Certificate:
    """The operator's, or one made now. Raises SettingsError when it cannot be used."""
    folder = settings.certificate_folder
    try:
        return load(folder) if (folder / KEY).exists() else create(folder, "Imagine Bot")
    except (CertificateError, OSError) as error:
        raise SettingsError(str(error)) from None
