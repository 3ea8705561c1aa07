"""Choices on recorded facts of unlike machines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llorch.core.choice import Choice, EngineBuild, GpuFacts, HostFacts, Wishes, choose
from llorch.core.memory import ModelShape, cache_bytes_per_token, memory_need
from llorch.errors import EngineUnavailable, ModelTooBig, UsageError

GIB = 1 << 30
CPU_BUILD = EngineBuild("llamacpp", "2026.10.11549", ("cpu",))
CUDA_BUILD = EngineBuild("llamacpp", "2026.10.11549+cu12", ("cpu", "cuda"))
RTX_3090 = GpuFacts(0, "NVIDIA GeForce RTX 3090", 24 * GIB, 23 * GIB, "550.54.14")
RTX_3060 = GpuFacts(1, "NVIDIA GeForce RTX 3060", 12 * GIB, 11 * GIB, "550.54.14")

SMALL_CLOUD = HostFacts(
    "linux", "x86_64", "Intel(R) Xeon(R) Processor", 2, 2, 2, ("avx2", "fma"),
    24 * GIB, 22 * GIB, builds=(CPU_BUILD,),
)  # fmt: skip
PI_5 = HostFacts(
    "linux", "aarch64", "aarch64", 4, 4, 4, ("asimd",), 4 * GIB, 3 * GIB, builds=(CPU_BUILD,)
)
GAMING_PC = HostFacts(
    "linux", "x86_64", "AMD Ryzen 9 5950X", 16, 32, 16, ("avx2",), 64 * GIB, 60 * GIB,
    gpus=(RTX_3090, RTX_3060), builds=(CUDA_BUILD,),
)  # fmt: skip
M1_MAX = HostFacts(
    "darwin", "arm64", "Apple M1 Max", 10, 10, 8, (), 32 * GIB, 20 * GIB, metal=True,
    builds=(EngineBuild("llamacpp", "2026.10.11549", ("cpu", "metal")),),
)  # fmt: skip

SMOLLM2 = ModelShape(96576768, 8192, 30, 576, 1536, 9, 384, 49152)
MISTRAL_7B = ModelShape(4_368_000_000, 32768, 32, 4096, 14336, 32, 2048, 32000)
LLAMA_70B = ModelShape(40 * GIB, 8192, 80, 8192, 28672, 64, 2048, 32000)


def test_a_small_cloud_machine_gets_the_measured_defaults() -> None:
    choice = choose(SMALL_CLOUD, Wishes(), SMOLLM2)
    assert replace(choice, reasons=()) == Choice(
        engine="llamacpp",
        backend="cpu",
        device="cpu",
        device_index=0,
        threads=2,
        batch=64,
        ctx=4096,
        slots=4,
        gpu_layers=0,
        flash_attention=True,
        prompt_cache_mib=2048,
        reasons=(),
    )
    assert "backend cpu: no GPU was found that the engine can use" in choice.reasons


def test_wishes_are_kept() -> None:
    wishes = Wishes("llamacpp", "cpu", 0, 7, 256, 1024, 9)
    choice = choose(SMALL_CLOUD, wishes, SMOLLM2)
    assert (choice.threads, choice.batch, choice.ctx, choice.slots) == (7, 256, 1024, 9)


def test_a_model_with_a_short_context_is_given_no_longer_one() -> None:
    assert choose(SMALL_CLOUD, Wishes(), replace(SMOLLM2, context_length=2048)).ctx == 2048


def test_a_context_is_rounded_up_as_the_engine_does_and_that_is_said() -> None:
    choice = choose(SMALL_CLOUD, Wishes(ctx=300), SMOLLM2)
    assert choice.ctx == 512
    assert any("context 512 for 300" in reason for reason in choice.reasons)


def test_short_memory_costs_slots_first_and_then_context() -> None:
    one_slot = memory_need(MISTRAL_7B, ctx=4096, slots=1, batch=64, flash_attention=True).total
    tight = replace(PI_5, memory_free=int(one_slot * 1.1))
    choice = choose(tight, Wishes(), MISTRAL_7B)
    assert (choice.slots, choice.ctx) == (1, 4096)
    assert any("1 x 4096 tokens of context instead of 4 x 4096" in r for r in choice.reasons)
    tighter = replace(PI_5, memory_free=int(one_slot * 1.1) - 2048 * _per_token(MISTRAL_7B))
    choice = choose(tighter, Wishes(), MISTRAL_7B)
    assert choice.slots == 1
    assert 512 <= choice.ctx < 4096


def _per_token(shape: ModelShape) -> int:
    return cache_bytes_per_token(shape)


def test_a_wish_is_never_made_smaller_to_fit() -> None:
    with pytest.raises(ModelTooBig, match="8 x 32768 tokens"):
        choose(PI_5, Wishes(slots=8, ctx=32768), MISTRAL_7B)


def test_a_model_that_cannot_fit_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelTooBig, match=r"needs 4\d\.\d GiB.* only 3\.0 GiB is free") as caught:
        choose(PI_5, Wishes(), LLAMA_70B)
    assert caught.value.extra["free_bytes"] == 3 * GIB
    assert caught.value.extra["needed_bytes"] > 40 * GIB


def test_parts_of_a_split_model_count() -> None:
    with pytest.raises(ModelTooBig):
        choose(PI_5, Wishes(), SMOLLM2, file_bytes=9 * GIB)


def test_memory_that_is_left_keeps_prompts_but_never_most_of_it() -> None:
    choice = choose(PI_5, Wishes(), SMOLLM2)
    need = memory_need(
        SMOLLM2, ctx=choice.ctx, slots=choice.slots, batch=64, flash_attention=True
    ).total
    assert 0 < choice.prompt_cache_mib << 20 <= (PI_5.memory_free - need) // 4


def test_the_best_device_of_a_gpu_machine_is_taken() -> None:
    choice = choose(GAMING_PC, Wishes(), MISTRAL_7B)
    assert (choice.backend, choice.device, choice.device_index) == ("cuda", "cuda:0", 0)
    assert choice.gpu_layers > MISTRAL_7B.blocks
    assert (choice.batch, choice.slots, choice.flash_attention) == (512, 8, True)


def test_a_device_that_is_asked_for_is_taken_or_refused() -> None:
    assert choose(GAMING_PC, Wishes(device=1), SMOLLM2).device == "cuda:1"
    with pytest.raises(EngineUnavailable, match=r"device 5 .* has: 0, 1"):
        choose(GAMING_PC, Wishes(device=5), SMOLLM2)
    with pytest.raises(EngineUnavailable, match="device 1"):
        choose(SMALL_CLOUD, Wishes(device=1), SMOLLM2)


def test_layers_that_do_not_fit_the_gpu_stay_on_the_cpu_and_that_is_said() -> None:
    choice = choose(GAMING_PC, Wishes(ctx=4096, slots=1), LLAMA_70B)
    assert 20 < choice.gpu_layers < LLAMA_70B.blocks
    assert any(f"{choice.gpu_layers} of 80 layers on the GPU" in r for r in choice.reasons)


def test_a_full_gpu_is_refused() -> None:
    full = replace(GAMING_PC, gpus=(replace(RTX_3090, memory_free=GIB // 4),))
    with pytest.raises(ModelTooBig):
        choose(full, Wishes(backend="cuda"), MISTRAL_7B)
    with pytest.raises(ModelTooBig, match="of GPU memory"):
        choose(full, Wishes(backend="cuda", gpu_layers=20), MISTRAL_7B)


def test_apple_silicon_uses_metal() -> None:
    choice = choose(M1_MAX, Wishes(), MISTRAL_7B)
    assert (choice.backend, choice.device, choice.threads) == ("metal", "metal:0", 8)


def test_auto_says_that_a_gpu_is_here_which_the_build_cannot_use() -> None:
    choice = choose(replace(GAMING_PC, builds=(CPU_BUILD,)), Wishes(), SMOLLM2)
    assert choice.backend == "cpu"
    assert any("RTX 3090 is here, but" in reason for reason in choice.reasons)


@pytest.mark.parametrize(
    "facts,wishes,words",
    [
        (
            replace(GAMING_PC, builds=(CPU_BUILD,)),
            Wishes(backend="cuda"),
            "cuda was asked for, but the llamacpp build here has no cuda inside",
        ),
        (SMALL_CLOUD, Wishes(backend="cuda"), "no NVIDIA device"),
        (SMALL_CLOUD, Wishes(backend="metal"), "Apple silicon only"),
        (SMALL_CLOUD, Wishes(backend="tpu"), "no backend tpu"),
        (SMALL_CLOUD, Wishes(engine="ollama"), "no engine ollama"),
        (replace(SMALL_CLOUD, builds=()), Wishes(), "not installed"),
        (SMALL_CLOUD, Wishes(engine="echo", backend="cuda"), "echo engine computes nothing"),
    ],
)
def test_what_is_not_here_is_refused_and_never_replaced(
    facts: HostFacts, wishes: Wishes, words: str
) -> None:
    with pytest.raises(EngineUnavailable, match=words) as caught:
        choose(facts, wishes, SMOLLM2)
    assert caught.value.hint


def test_an_unknown_engine_is_answered_with_those_that_exist() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        choose(SMALL_CLOUD, Wishes(engine="vllm"), SMOLLM2)
    assert "auto, llamacpp, echo" in caught.value.hint


def test_the_echo_engine_needs_no_model_and_is_never_chosen_by_itself() -> None:
    choice = choose(SMALL_CLOUD, Wishes(engine="echo", slots=3, ctx=100), None)
    assert (choice.engine, choice.slots, choice.ctx) == ("echo", 3, 100)
    with pytest.raises(EngineUnavailable, match="needs a model file"):
        choose(SMALL_CLOUD, Wishes(), None)


@pytest.mark.parametrize(
    "wishes",
    [Wishes(threads=0), Wishes(batch=-1), Wishes(ctx=0), Wishes(slots=0), Wishes(device=-1)],
)
def test_impossible_numbers_are_refused(wishes: Wishes) -> None:
    with pytest.raises(UsageError, match="is not possible"):
        choose(SMALL_CLOUD, wishes, SMOLLM2)


def test_a_context_beyond_what_the_model_was_made_for_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--ctx 9000 .* 8192"):
        choose(SMALL_CLOUD, Wishes(ctx=9000), SMOLLM2)


def test_the_memory_estimate_is_that_of_the_measured_machine() -> None:
    """Resident size of the engine process, MiB, as measured: never above the estimate."""
    for resident, settings in (
        (237, {"ctx": 4096, "slots": 1, "batch": 64, "flash_attention": False}),
        (869, {"ctx": 4096, "slots": 8, "batch": 64, "flash_attention": False}),
        (508, {"ctx": 4096, "slots": 4, "batch": 512, "flash_attention": True}),
    ):
        estimate = memory_need(SMOLLM2, **settings).total / 2**20  # type: ignore[arg-type]
        assert resident <= estimate <= resident * 1.1
