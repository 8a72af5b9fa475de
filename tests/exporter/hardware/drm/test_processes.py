"""DRM clients: what an fdinfo says, which processes are looked through, and every buffer counted once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.hardware.drm.clients import FIRST_ROUNDS, ROUNDS, ClientScanner
from exporter.hardware.drm.fdinfo import Client, parse
from exporter.hardware.drm.gpu_metrics import Metrics
from exporter.hardware.drm.gpu_metrics import parse as parse_metrics
from exporter.hardware.drm.processes import memory_by_process
from exporter.hardware.gpus import GpuProcess
from tests.fake_drm.gpus import RX_7900
from tests.fake_drm.kernel import amd_client, metrics_table
from tests.fake_drm.tree import FakeHost

GPU = "0000:03:00.0"


def client(number: int, local: int, *, shared: int = 0, host: int = 0, gpu: str = GPU) -> Client:
    return Client(gpu, number, local, host, shared, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"pos:\t0\nflags:\t02\nmnt_id:\t9\n",
        b"drm-driver:\tamdgpu\ndrm-pdev:\t0000:03:00.0\n",  # no client id: two could be one
        b"drm-driver:\tpanfrost\ndrm-client-id:\t3\ndrm-resident-memory:\t4 KiB\n",  # no PCI device
        b"drm-client-id:\tmany\ndrm-driver:\txe\ndrm-pdev:\t0000:03:00.0\n",
    ],
)
def test_what_is_no_client_of_a_pci_gpu_is_nothing(content: bytes) -> None:
    assert parse(content) is None


def test_units_are_read_and_resident_is_preferred() -> None:
    content = (
        b"drm-driver:\ti915\ndrm-client-id:\t11\ndrm-pdev:\t0000:03:00.0\n"
        b"drm-total-local0:\t900 MiB\ndrm-resident-local0:\t512 MiB\ndrm-shared-local0:\t1024\n"
        b"drm-resident-stolen-local0:\t8 MiB\ndrm-resident-system0:\t2048 KiB\ndrm-total-system0:\t9 GiB\n"
    )

    assert parse(content) == Client(GPU, 11, 520 * 2**20, 2 * 2**20, 1024, 0)


def test_drivers_that_know_no_residency_are_read_by_their_total() -> None:
    content = (
        b"drm-driver:\txe\ndrm-client-id:\t1\ndrm-pdev:\t0000:03:00.0\ndrm-total-vram0:\t3 MiB\n"
        b"drm-total-cycles-rcs:\t7655183225\n"
    )

    assert parse(content) == Client(GPU, 1, 3 * 2**20, 0, 0, 0)


@given(
    st.binary(max_size=300)
    | st.text(alphabet="drm-:\t 0123456789KiB\nresidentvramclientidpdev", max_size=300)
)
def test_no_content_breaks_the_reader(content: bytes | str) -> None:
    found = parse(content if isinstance(content, bytes) else content.encode())
    assert found is None or found.local_bytes >= found.local_shared_bytes >= 0


@given(st.binary(max_size=200))
def test_no_metrics_table_breaks_the_reader(table: bytes) -> None:
    found = parse_metrics(table)
    assert found.energy_joules is None or found.energy_joules >= 0


@pytest.mark.parametrize("version", [(1, 0), (1, 2), (2, 4), (3, 0), (1, 9)])
def test_a_metrics_table_of_another_layout_is_not_guessed_at(version: tuple[int, int]) -> None:
    assert parse_metrics(metrics_table(version, 300, {24: 5, 88: 5, 112: 5})) == Metrics()


def test_a_field_the_gpu_does_not_fill_is_absent() -> None:
    assert parse_metrics(metrics_table((1, 4), 200, {})) == Metrics()


def test_a_client_under_many_descriptors_and_processes_counts_once() -> None:
    clients = [(20, client(1, 100)), (20, client(1, 100)), (30, client(1, 100)), (30, client(2, 7))]

    assert memory_by_process(clients, integrated=frozenset()) == {
        GPU: (GpuProcess(20, 100), GpuProcess(30, 7))
    }


def test_the_same_client_number_on_two_gpus_is_two_clients() -> None:
    clients = [(20, client(1, 100)), (20, client(1, 50, gpu="0000:04:00.0"))]

    assert memory_by_process(clients, integrated=frozenset()) == {
        GPU: (GpuProcess(20, 100),),
        "0000:04:00.0": (GpuProcess(20, 50),),
    }


def test_a_shared_buffer_counts_once() -> None:
    clients = [(20, client(1, 100, shared=40)), (30, client(2, 50, shared=40)), (40, client(3, 10))]

    found = memory_by_process(clients, integrated=frozenset())[GPU]

    assert found == (GpuProcess(20, 100), GpuProcess(30, 10), GpuProcess(40, 10))


@given(
    st.lists(
        st.tuples(
            st.integers(1, 5),
            st.builds(
                lambda number, local, part: client(number, local, shared=int(local * part)),
                st.integers(1, 4),
                st.integers(0, 1000),
                st.floats(0, 1),
            ),
        ),
        max_size=12,
    )
)
def test_no_process_holds_more_than_its_clients_say(clients: list[tuple[int, Client]]) -> None:
    found = memory_by_process(clients, integrated=frozenset()).get(GPU, ())
    for process in found:
        most = sum(one.local_bytes for pid, one in clients if pid == process.pid)
        assert 0 <= (process.memory_bytes or 0) <= most


def pids(scanner: ClientScanner) -> list[int]:
    return [pid for pid, _ in scanner.scan().clients]


def test_a_gpu_file_opened_without_a_sign_is_found_within_the_rounds(host: FakeHost) -> None:
    host.add_process(50)
    scanner = ClientScanner(str(host.procfs))
    for _ in range(FIRST_ROUNDS):
        assert pids(scanner) == []
    (host.procfs / "50/fd/2").unlink()  # the number of descriptors stays what it was
    (host.procfs / "50/fd/2").symlink_to("/dev/dri/renderD128")
    (host.procfs / "50/fdinfo/2").write_text(amd_client(RX_7900, 1, vram_kib=4))

    found = [pids(scanner) for _ in range(ROUNDS)]

    assert [50] in found
    assert found[-1] == [50]


def test_a_process_that_ends_is_forgotten(host: FakeHost) -> None:
    host.add_process(50, amd_client(RX_7900, 1, vram_kib=4))
    scanner = ClientScanner(str(host.procfs))
    assert pids(scanner) == [50]

    host.end_process(50)

    assert pids(scanner) == []
    assert scanner.scan().hidden_pids == frozenset()


def test_unchanged_processes_are_not_looked_through_at_every_reading(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in range(100, 116):
        host.add_process(pid)
    scanner = ClientScanner(str(host.procfs))
    for _ in range(FIRST_ROUNDS):
        scanner.scan()
    looked: set[str] = set()

    def is_drm(path: str) -> bool:
        looked.add(path.partition("/fd/")[0])
        return False

    monkeypatch.setattr("exporter.hardware.drm.clients._is_drm", is_drm)

    scanner.scan()

    assert len(looked) == 16 // ROUNDS
