"""The service behind the requests about calibrations: what was measured in a browser, judged.

Between requests nothing is kept: what began is signed, and handed back with what was measured.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any, Final

import planner
from api.http.calibration_models import (
    Adapter,
    CalibratedDevice,
    CalibrationBegun,
    CalibrationRequest,
    ProfileRequest,
    ReplaysWanted,
    SamplesRequest,
    SweepDocument,
    WantedProbe,
    by_number,
)
from api.http.signing import Signer
from api.store.devices import DeviceStore
from gpu.claims import (
    Claim,
    ClaimError,
    check_claim,
    check_fit,
    check_replays,
    left_out,
    replayed,
)
from gpu.fitting import Calibration, Times, fit_profile
from gpu.library import library_text
from gpu.probes import SWEEPS, Sweep
from planner.costs.profile import Measurement

SESSION_SECONDS: Final = 6 * 3600
_AGAIN_SECONDS: Final = 900
_SESSION: Final = "calibration"
_AGAIN: Final = "measured again"
_OLD: Final = "the calibration began too long ago, or in another release: begin again"
_TIMED: Final = {"timestamps": "timestamp queries", "queue": "batches timed by the queue"}


class CalibrationService:
    """Judges what was measured in browsers, and makes profiles of devices of it."""

    def __init__(self, devices: DeviceStore, signer: Signer, needs_links: bool) -> None:
        """With ``needs_links``, an address lets nobody calibrate that is not signed."""
        self.devices, self.signer, self.needs_links = devices, signer, needs_links

    def sweep(self, name: str) -> SweepDocument:
        """What is measured; a browser is not asked whether its own float16 are exact."""
        return SweepDocument.of(SWEEPS[name], library_text("integer"))

    def begin(self, wanted: CalibrationRequest) -> CalibrationBegun:
        """Begins a calibration of a device."""
        seed = secrets.randbits(32)
        document = {**wanted.model_dump(), "seed": seed, "release": planner.__version__}
        session = self.signer.sign(_SESSION, document, SESSION_SECONDS)
        return CalibrationBegun(session=session, seed=seed, seconds=SESSION_SECONDS)

    def device_of(self, samples: SamplesRequest) -> str:
        """The device that samples are of; raises ``ClaimError``."""
        device: str = self._session(samples)["device"]
        return device

    def judge(self, samples: SamplesRequest) -> ReplaysWanted:
        """Checks samples, and says what to measure again; raises ``ClaimError``."""
        sweep, claim, times = self._checked(samples)
        self._fit(sweep, claim, times, samples)
        seed = secrets.randbits(32)
        document = {"claim": claim.sha256, "seed": seed, "session": samples.session}
        return ReplaysWanted(
            again=self.signer.sign(_AGAIN, document, _AGAIN_SECONDS),
            seed=seed,
            probes=[
                WantedProbe(number=number, key=key) for number, key in replayed(sweep, claim, seed)
            ],
        )

    def keep(self, profile: ProfileRequest) -> CalibratedDevice:
        """Checks samples once more, with what was measured again, and keeps the profile.

        Raises ``ClaimError``, and ``ConflictError`` for a device that cannot be changed.
        """
        document = self.signer.read(_AGAIN, profile.again)
        claim = profile.claim()
        if document is None or document["session"] != profile.session:
            raise ClaimError(_OLD)
        if document["claim"] != claim.sha256:
            raise ClaimError("these are other samples than those that were checked: begin again")
        sweep, _, times = self._checked(profile)
        seed: int = document["seed"]
        wanted = replayed(sweep, claim, seed)
        check_replays(sweep, claim, wanted, by_number(profile.replays), seed)
        made = self._fit(sweep, claim, times, profile)
        device = self.device_of(profile)
        self.devices.calibrate(device, made.profile)
        return CalibratedDevice.of(device, made)

    def _session(self, samples: SamplesRequest) -> dict[str, Any]:
        session = self.signer.read(_SESSION, samples.session)
        if session is None or session["release"] != planner.__version__:
            raise ClaimError(_OLD)
        return session

    def _checked(self, samples: SamplesRequest) -> tuple[Sweep, Claim, Times]:
        session, claim = self._session(samples), samples.claim()
        sweep = SWEEPS[session["sweep"]]
        return sweep, claim, check_claim(sweep, claim, session["seed"])

    def _fit(
        self, sweep: Sweep, claim: Claim, times: Times, samples: SamplesRequest
    ) -> Calibration:
        measured = Measurement(
            adapter=samples.adapter.name,
            driver="unknown to a browser",
            backend=f"WebGPU, {_TIMED[claim.timing]}",
            date=datetime.now(UTC).date().isoformat(),
            fit={
                "left_out": left_out(sweep, claim),
                "resolution_ns": round(claim.resolution_ns, 1),
            },
        )
        name, description = self.device_of(samples), _description(samples.adapter, sweep, claim)
        made = fit_profile(sweep, times, name, description, measured)
        check_fit(made)
        return made


def _description(adapter: Adapter, sweep: Sweep, claim: Claim) -> str:
    software = ", a software driver" if adapter.is_fallback else ""
    return (
        f"Measured in a browser on {adapter.name}{software} through WebGPU, by "
        f"{_TIMED[claim.timing]}, the sweep {sweep.name}: a repack's time by the bytes that it "
        "reads and writes, for each pair of representations; ns a byte to access one. These are "
        "WebGPU's buffers and storage textures and this planner's shaders, not ExecuTorch's "
        "kernels: what operators take is not in it."
    )
