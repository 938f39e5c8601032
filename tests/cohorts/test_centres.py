"""Centres of the synthetic cohort: patients, devices, units and laws of their own, and an optimum that stays exact."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pydicom
import pytest
import wfdb

from tgmm_hf.cli.cohort import Centre as CentreChoice
from tgmm_hf.cohorts.synthetic import bayes, cohort, write_cohort
from tgmm_hf.cohorts.synthetic.centres import CENTRES, NUMBERS_OF_CENTRE
from tgmm_hf.cohorts.synthetic.evidence import ANOMALY_PERIOD, anomaly_of, draw, index_of
from tgmm_hf.cohorts.synthetic.patients import LABS, Settings, patient_identity, patient_labs
from tgmm_hf.cohorts.synthetic.render_ecg import draw_ecg, noise
from tgmm_hf.cohorts.synthetic.render_labs import LAB_ITEMS, render_labs
from tgmm_hf.data.manifest import read_cohort_table
from tgmm_hf.data.table_files import UNITS_KEY
from tgmm_hf.inputs.lab_columns import find_column, to_canonical
from tgmm_hf.utils.names import VIEWS

SMALL = {"frames": 4, "height": 96, "width": 128}
NAMES = tuple(CENTRES)


def settings_of(centre: str, seed: int = 3) -> Settings:
    return Settings(seed, "default", **SMALL, centre=centre)


@pytest.fixture
def without_population(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the optimum on 20,000 draws, which takes seconds."""
    monkeypatch.setattr(cohort, "population_figures", lambda strength: {"prevalence": strength.prevalence})


def test_the_command_offers_every_centre() -> None:
    assert [choice.value for choice in CentreChoice] == list(CENTRES)


@pytest.mark.parametrize("name", ["clinic", "emergency"])
def test_the_optimum_of_a_centre_is_calibrated(name: str) -> None:
    """With the prevalence of another centre the best answers would be wrong in the mean."""
    strength = CENTRES[name].strength("default")
    table = draw(np.random.default_rng(4), 1500, strength)
    posterior = bayes.references(table, strength).posterior["labs+ecg+echo"]
    assert abs(posterior.mean() - strength.prevalence) < 0.025
    elsewhere = replace(strength, prevalence=0.45)
    assert abs(bayes.references(table, elsewhere).posterior["labs+ecg+echo"].mean() - strength.prevalence) > 0.04
    for low in np.arange(0, 1, 0.25):
        rows = (posterior >= low) & (posterior < low + 0.25)
        error = 4 * np.sqrt(0.25 / rows.sum())
        assert abs(table.label[rows].mean() - posterior[rows].mean()) < error, low


def test_what_a_centre_never_orders_is_missing_evidence() -> None:
    table = draw(np.random.default_rng(5), 300, CENTRES["clinic"].strength("default"))
    assert not table.present[:, index_of("NTproBNP")].any() and not table.present[:, index_of("Troponin T")].any()
    assert table.present[:, index_of("Creatinine")].mean() > 0.9
    assert not table.views[:, VIEWS.index("SSN")].any() and table.usable[:, 2].all()
    row = patient_labs(settings_of("clinic"), 1)
    assert not {"NTproBNP", "Anion Gap", "Phosphate"} & set(row.numbers)


def test_no_two_centres_share_a_patient() -> None:
    all_settings = [settings_of(name, seed) for name in ("", *NAMES) for seed in (0, 1)]
    for numbers in ("subject", "hadm", "ecg_study", "echo_study"):
        of_centre = [
            {getattr(patient_identity(settings, index), numbers) for index in range(40)} for settings in all_settings
        ]
        first = {}
        for settings, some in zip(all_settings, of_centre, strict=True):
            assert all(first.setdefault(number, settings.centre) == settings.centre for number in some)
    drawn = [settings_of(name).intended(0).values[0, 0] for name in ("", *NAMES)]
    assert len(set(drawn)) == len(drawn)
    assert NUMBERS_OF_CENTRE % ANOMALY_PERIOD == 0
    assert anomaly_of(settings_of("clinic").number(7)) == "flat_ecg"


@pytest.mark.parametrize(("name", "rate", "gain", "unit"), [("district", 1000, 0.4, "uV"), ("clinic", 250, 200, "mV")])
def test_files_are_those_of_the_devices(name: str, rate: int, gain: float, unit: str, tmp_path: Path) -> None:
    settings = settings_of(name)
    cohort.render_patient((tmp_path, settings, 0))
    who = patient_identity(settings, 0)
    record = wfdb.rdrecord(str(tmp_path / "ecg" / cohort.ecg_path(who.subject, who.ecg_study)))
    assert (record.fs, record.sig_len, record.units[0]) == (rate, 10 * rate, unit)
    assert record.adc_gain[0] == gain
    millivolts = record.p_signal / (1000 if unit == "uV" else 1)
    clean = draw_ecg(settings.intended(0), settings.stream(0, cohort.ECG)).leads()
    times = np.arange(0, 10, 0.004)
    shown = millivolts[(times * rate).round().astype(int), 1]
    assert np.corrcoef(shown, clean[(times * 500).round().astype(int), 1])[0, 1] > 0.9
    clip = pydicom.dcmread(next(tmp_path.rglob("*.dcm")))
    device = CENTRES[name].echo
    assert (clip.Manufacturer, clip.ManufacturerModelName) == (device.maker, device.model)
    assert (clip.NumberOfFrames, clip.Rows, clip.Columns) == device.clip_size(*SMALL.values())
    region = clip.SequenceOfUltrasoundRegions[0]
    assert region.PhysicalDeltaY * 0.86 * clip.Rows == pytest.approx(device.depth, rel=1e-3)


@pytest.mark.parametrize(("name", "mains"), [("district", 50), ("university", 60)])
def test_hum_has_the_frequency_of_the_mains(name: str, mains: int) -> None:
    device = CENTRES[name].ecg
    power = np.abs(np.fft.rfft(noise(np.random.default_rng(0), device)[:, 3])) ** 2
    frequency = np.fft.rfftfreq(device.rate * 10, 1 / device.rate)
    high = frequency > 20
    assert frequency[high][power[high].argmax()] == mains


def test_a_laboratory_in_si_units_reports_the_same_values() -> None:
    settings = settings_of("district")
    for index in range(10):
        reported = patient_labs(settings, index)
        row = render_labs(settings.intended(index), settings.stream(index, LABS), dict(settings.site.neutral))
        assert set(reported.numbers) == set(row.numbers)
        for name, unit in reported.unit_cells().items():
            if unit is not None:
                back = to_canonical(find_column(name), reported.numbers[name], unit)
                assert back == pytest.approx(row.numbers[name], rel=0.02, abs=0.5 * 10 ** -LAB_ITEMS[name].digits), name
    assert patient_labs(settings, 0).numbers["Creatinine"] > 20  # umol/L


def test_a_cohort_of_a_centre_declares_its_units(tmp_path: Path, without_population: None) -> None:
    path = write_cohort(tmp_path, 14, 3, workers=1, labs_only=True, centre="district")
    assert pq.read_schema(path).metadata[UNITS_KEY] == b"SI"
    table = pd.read_parquet(path)
    rows = table["labs.Creatinine"].notna()
    assert set(table["unit.Creatinine"][rows]) == {"umol/L"} and table["unit.Creatinine"][~rows].isna().all()
    content = read_cohort_table(path)
    assert {row.labs["Creatinine"][1] for row in content.rows if "Creatinine" in row.labs} == {"umol/L"}
    events = pd.read_csv(tmp_path / "hosp" / "labevents.csv.gz")
    assert set(events.valueuom[events.itemid == 50912]) == {"umol/L"}
    assert events.ref_range_upper[events.itemid == 50912].iloc[0] == 106
    assert json.loads((tmp_path / "bayes.json").read_text())["prevalence"] == 0.35
    with pytest.raises(ValueError, match="made with"):
        write_cohort(tmp_path, 14, 3, workers=1, labs_only=True)


def test_unknown_centres_and_their_x_rays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known are university"):
        write_cohort(tmp_path, 7, centre="moon")
    with pytest.raises(ValueError, match="X-ray"):
        write_cohort(tmp_path, 7, centre="clinic", xray=True, no_echo=True)
