"""fairseq's optimizer of mixed-precision training (``common.amp``) divides gradients twice."""

from fairseq.optim.amp_optimizer import AMPOptimizer


def _step(optimizer: AMPOptimizer) -> None:
    """Step the optimizer whose gradients ``clip_grad_norm`` has divided by the loss scale.

    fairseq passes its wrapper of that optimizer instead. torch's scaler takes it for another one
    and divides the gradients again, by up to 65,536 or more.
    """
    optimizer.scaler.step(optimizer.optimizer)
    optimizer.scaler.update()


AMPOptimizer.step = _step
