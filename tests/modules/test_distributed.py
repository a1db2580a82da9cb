import os
import socket

import pytest
import torch
import torch.distributed
import torch.nn.functional as F

from mmpt_fairseq.criterions.contrastive import contrastive_loss
from mmpt_fairseq.criterions.retrieval import Retrieval
from mmpt_fairseq.models.av_pretraining import Embeddings
from mmpt_fairseq.modules.distributed import gather_from_all_processes

# Numbers of rows of the two processes.
SPLITS = [(3, 3), (4, 2), (1, 5), (6, 0), (0, 6)]


def test_one_process_gathers_its_own_rows():
    x = torch.randn(4, 3)
    gathered, start = gather_from_all_processes(x, 3)
    assert torch.equal(gathered, x[:3])
    assert start == 0


def inputs() -> list[torch.Tensor]:
    """Unnormalised audio and video embeddings, and the log scale."""
    generator = torch.Generator().manual_seed(0)
    audio, video = torch.randn(2, 6, 5, dtype=torch.float64, generator=generator)
    scale = torch.tensor(1.3, dtype=torch.float64)
    return [t.clone().requires_grad_() for t in (audio, video, scale)]


def loss_and_gradients(first: int, last: int, dummy_rows: int = 0) -> list[torch.Tensor]:
    audio, video, scale = inputs()
    rows = slice(first, last) if not dummy_rows else slice(0, dummy_rows)
    embeddings = Embeddings(F.normalize(audio[rows]), F.normalize(video[rows]), scale)
    loss, logs = contrastive_loss(embeddings, is_dummy=bool(dummy_rows))
    loss.backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in (audio, video, scale)]
    return [loss.detach(), torch.as_tensor(logs["clr_accuracy"]), *gradients]


def recalls(is_dummy: bool) -> dict[str, float]:
    """Recalls of a validation set of one batch."""
    audio, video, scale = (t.detach() for t in inputs())
    retrieval = Retrieval()
    retrieval.add(Embeddings(F.normalize(audio), F.normalize(video), scale), is_dummy)
    return retrieval.recalls()


def process(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    results = {}
    for sizes in SPLITS:
        first = sum(sizes[:rank])
        results[sizes] = loss_and_gradients(first, first + sizes[rank])
    # A dummy batch takes part without being counted.
    results["dummy"] = loss_and_gradients(0, 6) if rank == 0 else loss_and_gradients(0, 0, 2)
    results["recalls"] = recalls(is_dummy=rank == 1)
    start = gather_from_all_processes(torch.full((3, 2), rank), 1 + rank)
    results["gather"] = [start[0], torch.tensor(start[1])]
    torch.save(results, f"{folder}/{rank}.pt")
    # Gloo's threads release tensors late, and abort the process if Python has exited by then; a
    # barrier, as at the end of fairseq's training, gives them time.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(process, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("split", [*SPLITS, "dummy"])
def test_two_processes_equal_one_with_the_whole_batch(two_processes, split):
    whole = loss_and_gradients(0, 6)
    together = [a + b for a, b in zip(*(p[split] for p in two_processes), strict=True)]
    for found, expected in zip(together, whole, strict=True):
        assert torch.allclose(found.double(), expected.double(), atol=1e-10)
    assert float(whole[0]) > 1
    assert all(g.any() for g in whole[2:])


def test_rows_are_gathered_in_order_of_processes(two_processes):
    for rank, result in enumerate(two_processes):
        rows, start = result["gather"]
        assert rows.tolist() == [[0, 0], [1, 1], [1, 1]]
        assert int(start) == rank


def test_process_with_only_a_dummy_validation_batch_takes_part_in_recalls(two_processes):
    """As in a validation set with fewer batches than processes."""
    first, second = (result["recalls"] for result in two_processes)
    assert first == second == recalls(is_dummy=False)
    assert len(first) == 4
