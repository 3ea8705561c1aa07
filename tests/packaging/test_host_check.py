"""What keeps an engine's library from running here is found before it is loaded, and worded."""

from dataclasses import replace

import pytest

from llorch.engine.host_check import (
    HostFacts,
    ctransformers_lib,
    ctransformers_reason,
    gather,
    llamacpp_reason,
    parse_cpu_flags,
    parse_glibc,
)

FLAGS = frozenset(["fpu", "sse2", "avx", "f16c", "fma", "bmi1", "bmi2", "avx2"])
PC = HostFacts("linux", "x86_64", cpu_flags=FLAGS, glibc=(2, 36))
ARM = HostFacts("linux", "aarch64", cpu_flags=frozenset({"fp", "asimd"}), glibc=(2, 36))
MAC = HostFacts("darwin", "arm64", macos=(14, 5))


@pytest.mark.parametrize("facts", [PC, ARM, MAC, replace(MAC, macos=(13, 3))])
def test_llamacpp_runs_on_a_usual_machine(facts):
    assert llamacpp_reason(facts) is None


@pytest.mark.parametrize("flag", ["avx2", "fma", "f16c", "bmi2"])
def test_llamacpp_names_the_flag_that_an_old_processor_lacks(flag):
    reason = llamacpp_reason(replace(PC, cpu_flags=FLAGS - {flag}))
    assert reason is not None
    assert f"lacks {flag}" in reason
    assert "ctransformers" in reason


def test_a_processor_whose_flags_cannot_be_read_gets_the_benefit_of_the_doubt():
    assert llamacpp_reason(replace(PC, cpu_flags=frozenset())) is None


def test_a_missing_libgomp_is_named_with_the_packages_that_bring_it():
    reason = llamacpp_reason(replace(PC, has_libgomp=False))
    assert reason is not None
    assert "apt-get install libgomp1" in reason
    assert "dnf install libgomp" in reason
    assert ctransformers_reason(replace(PC, has_libgomp=False)) is None


def test_an_old_macos_is_named():
    reason = llamacpp_reason(replace(MAC, macos=(13, 2)))
    assert reason is not None
    assert "13.3" in reason


def test_ctransformers_has_no_library_for_linux_on_arm_and_needs_glibc_2_29():
    assert ctransformers_reason(PC) is None
    assert ctransformers_reason(MAC) is None
    assert "no library for aarch64" in (ctransformers_reason(ARM) or "")
    assert "this system has 2.28" in (ctransformers_reason(replace(PC, glibc=(2, 28))) or "")


@pytest.mark.parametrize(
    "flags,lib",
    [
        (FLAGS, "avx2"),
        (FLAGS - {"avx2"}, "avx"),
        (FLAGS - {"fma"}, "avx"),
        (FLAGS - {"f16c"}, "basic"),
        (frozenset(), "basic"),
    ],
)
def test_the_build_of_ctransformers_is_the_best_that_the_flags_allow(flags, lib):
    assert ctransformers_lib(replace(PC, cpu_flags=flags)) == lib


def test_flags_are_those_of_the_first_processor():
    text = "processor\t: 0\nflags\t\t: fpu AVX2\n\nprocessor\t: 1\nflags\t\t: none\n"
    assert parse_cpu_flags(text) == {"fpu", "avx2"}
    assert parse_cpu_flags("Features\t: fp asimd\n") == {"fp", "asimd"}
    assert parse_cpu_flags("") == frozenset()


@pytest.mark.parametrize(
    "text,version",
    [("glibc 2.36", (2, 36)), ("glibc 2.39.9", (2, 39)), ("musl 1.2", None), ("", None)],
)
def test_the_version_of_glibc_is_read(text, version):
    assert parse_glibc(text) == version


def test_the_facts_of_this_machine_can_be_read():
    facts = gather()
    assert facts.system
    assert facts.machine
