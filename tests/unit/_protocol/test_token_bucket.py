"""Token buckets: one alone, and one per name."""

from __future__ import annotations

from artico_sync._protocol.token_bucket import TokenBucket, TokenBuckets


def test_token_bucket() -> None:
    bucket = TokenBucket(rate=0.01, burst=2)
    assert [bucket.try_acquire() for _ in range(3)] == [True, True, False]
    assert 50 < bucket.charge() <= 100
    assert 150 < bucket.charge() <= 200


def test_every_name_has_a_bucket_of_its_own() -> None:
    buckets = TokenBuckets(rate=0.001, burst=1, maximum=10)
    assert [buckets.try_acquire(name) for name in "abab"] == [True, True, False, False]


def test_the_bucket_used_least_recently_is_dropped() -> None:
    buckets = TokenBuckets(rate=0.001, burst=1, maximum=2)
    assert [buckets.try_acquire(name) for name in "abac"] == [True, True, False, True]
    # The bucket of "a" was used after that of "b", which has a full one again.
    assert [buckets.try_acquire(name) for name in "ab"] == [False, True]
