"""The tus upload against a model server that cuts, forgets and lies within the protocol."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uplink.pacing import ChunkSize
from uplink.tus import Create, Finished, Head, Patch, TusUpload

SHA = "ab" * 32


def upload(size: int = 10, url: str | None = None) -> TusUpload:
    return TusUpload(size, SHA, url, ChunkSize(4))


def test_a_new_upload_is_created_then_sent_in_chunks() -> None:
    it = upload()
    assert it.next() == Create()
    it.created("u", 0)
    assert it.next() == Patch("u", 0, 4)
    it.patched(4, 9.0)
    assert it.next() == Patch("u", 4, 6)  # never smaller than the smallest chunk
    it.patched(10, 9.0)
    assert it.next() == Finished("u")


def test_an_upload_remembered_from_before_is_asked_about_first() -> None:
    it = upload(url="u")
    assert it.next() == Head("u")
    it.found(7, 10, SHA)
    assert it.next() == Patch("u", 7, 3)


def test_content_that_the_server_knows_needs_no_byte() -> None:
    it = upload()
    it.created("u", 10)
    assert it.next() == Finished("u")


def test_an_empty_file_needs_no_patch() -> None:
    it = upload(0)
    it.created("u", 0)
    assert it.next() == Finished("u")


@pytest.mark.parametrize(
    ("offset", "length", "digest"),
    [(3, 11, SHA), (3, 10, "cd" * 32), (11, None, None), (-1, None, None)],
    ids=["another length", "another content", "beyond the end", "negative"],
)
def test_an_upload_of_other_content_is_given_up(offset: int, length: int | None, digest: str | None) -> None:
    it = upload(url="u")
    it.found(offset, length, digest)
    assert it.next() == Create()


def test_after_a_failure_comes_head_and_the_servers_offset_counts() -> None:
    it = upload()
    it.created("u", 0)
    it.broke_off()
    assert it.next() == Head("u")
    assert it.found(4, None, None) is True
    it.lost_place()
    assert it.next() == Head("u")
    assert it.found(2, None, None) is False  # the server lost something: no progress, but its word
    assert it.next() == Patch("u", 2, 8)


def test_a_complete_upload_is_not_asked_about_again_when_its_check_fails() -> None:
    it = upload()
    it.created("u", 10)
    it.broke_off()
    assert it.next() == Finished("u")
    it.gone()
    assert it.next() == Create()


def test_resent_bytes_are_counted_once_per_repeat() -> None:
    it = upload(100)
    it.created("u", 0)
    assert it.handed_out(0, 60) == 0
    assert it.handed_out(40, 30) == 20
    assert it.handed_out(70, 30) == 0


def test_413_makes_chunks_smaller_until_they_cannot_be() -> None:
    it = TusUpload(1 << 20, SHA, None, ChunkSize(1 << 20))
    it.created("u", 0)
    sizes = []
    while it.too_large():
        assert it.next() == Head("u")
        it.found(0, None, None)
        step = it.next()
        assert isinstance(step, Patch)
        sizes.append(step.size_bytes)
    assert sizes == [1 << 19, 1 << 18, 1 << 17, 1 << 16]


class ModelServer:
    """What arrives of a broken PATCH is kept; uploads may vanish or lose their tail."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.held: dict[str, bytearray] = {}

    def step(self, it: TusUpload, trouble: str) -> str | None:
        """Do one step with this trouble; the address once the upload is finished."""
        match it.next():
            case Create():
                url = f"u{len(self.held)}"
                self.held[url] = bytearray()
                it.broke_off() if trouble.startswith("cut") else it.created(url, 0)
            case Head(url):
                self.head(it, url, trouble)
            case Patch(url, offset, size):
                self.patch(it, Patch(url, offset, size), trouble)
            case Finished(url):
                return url
        return None

    def head(self, it: TusUpload, url: str, trouble: str) -> None:
        if trouble == "gone":
            self.held[url] = bytearray()
            it.gone()
        elif trouble.startswith("cut"):
            it.broke_off()
        else:
            it.found(len(self.held[url]), len(self.content), sha256(self.content).hexdigest())

    def patch(self, it: TusUpload, patch: Patch, trouble: str) -> None:
        held = self.held[patch.url]
        if patch.offset != len(held) or trouble == "409":
            it.lost_place()
        elif trouble == "tail lost":
            del held[len(held) // 2 :]
            it.broke_off()
        elif trouble == "cut before":
            it.broke_off()
        else:
            kept = patch.size_bytes // 2 if trouble == "cut inside" else patch.size_bytes
            it.handed_out(patch.offset, patch.size_bytes)
            held += self.content[patch.offset : patch.offset + kept]
            it.broke_off() if trouble.startswith("cut") else it.patched(len(held), 0.1)


TROUBLE = st.sampled_from(["", "", "cut before", "cut after", "cut inside", "gone", "tail lost", "409"])


@given(st.lists(TROUBLE, max_size=60), st.binary(max_size=3000), st.integers(1, 700))
def test_any_mix_of_failures_delivers_exactly_the_content(
    troubles: list[str], content: bytes, chunk_bytes: int
) -> None:
    server = ModelServer(content)
    it = TusUpload(len(content), sha256(content).hexdigest(), None, ChunkSize(chunk_bytes))
    for trouble in [*troubles, *[""] * 4000]:
        url = server.step(it, trouble)
        if url is not None:
            assert bytes(server.held[url]) == content
            return
    pytest.fail("the upload never finished")
