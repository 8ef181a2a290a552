"""The commands of Redis that are refused, and what to use instead."""

from __future__ import annotations

from typing import Any, NoReturn

from tagcache.server.commands.resp.table import MAX_ARGUMENTS, RedisError, RespCommand

_VALUES = (
    "a cache of plain values has no {}: store a serialised value with SET, and use TAG.SET to find "
    "entries again"
)
_LISTS = """
    LPUSH LPUSHX RPUSH RPUSHX LPOP RPOP LLEN LRANGE LINDEX LSET LREM LTRIM LINSERT LPOS LMOVE
    LMPOP RPOPLPUSH BLPOP BRPOP BLMOVE BLMPOP BRPOPLPUSH
"""
_HASHES = """
    HSET HSETNX HMSET HGET HMGET HGETALL HDEL HEXISTS HLEN HKEYS HVALS HINCRBY HINCRBYFLOAT
    HSTRLEN HSCAN HRANDFIELD HEXPIRE HPEXPIRE HTTL HPTTL HPERSIST
"""
_SETS = """
    SADD SREM SMEMBERS SISMEMBER SMISMEMBER SCARD SPOP SRANDMEMBER SMOVE SINTER SINTERCARD
    SINTERSTORE SUNION SUNIONSTORE SDIFF SDIFFSTORE SSCAN
"""
_SORTED_SETS = """
    ZADD ZREM ZSCORE ZMSCORE ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZREVRANGE
    ZREVRANGEBYSCORE ZRANK ZREVRANK ZINCRBY ZPOPMIN ZPOPMAX BZPOPMIN BZPOPMAX ZREMRANGEBYSCORE
    ZREMRANGEBYRANK ZUNIONSTORE ZINTERSTORE ZUNION ZINTER ZDIFF ZSCAN ZLEXCOUNT ZRANDMEMBER
"""
_STREAMS = """
    XADD XREAD XREADGROUP XRANGE XREVRANGE XLEN XDEL XTRIM XACK XGROUP XINFO XCLAIM XAUTOCLAIM
    XPENDING
"""
_BITS = """
    SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD BITFIELD_RO PFADD PFCOUNT PFMERGE GEOADD
    GEOPOS GEODIST GEOSEARCH
"""
_PUBSUB = """
    SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE PUBLISH SPUBLISH
    PUBSUB
"""
_CLUSTER = """
    CLUSTER ASKING READONLY READWRITE
"""
_REPLICATION = """
    REPLICAOF SLAVEOF REPLCONF PSYNC SYNC FAILOVER WAIT WAITAOF
"""
_SAVING = """
    SAVE BGSAVE BGREWRITEAOF LASTSAVE
"""
_OTHER = {
    "MONITOR": "use SLOWLOG, the events of the dashboard, or /events over HTTP",
    "MIGRATE": "there is one server",
    "DUMP": "use GET and TAG.OF",
    "RESTORE": "use SET or TAG.SET",
    "MOVE": "use GET and SET",
    "SWAPDB": "use FLUSHDB",
    "SORT": "a cache of plain values has nothing to sort",
    "FUNCTION": "this server runs no scripts",
    "FCALL": "this server runs no scripts",
    "EVAL_RO": "this server runs no scripts",
    "EVALSHA_RO": "this server runs no scripts",
    "ACL": "there is one user; see security.require_tcp_auth in the configuration",
    "DEBUG": "use the manhole",
    "SHUTDOWN": "stop the service",
    "MODULE": "there are no modules",
    "LATENCY": "use SLOWLOG, or /metrics over HTTP",
}


def _advice() -> dict[str, str]:
    advice = dict(_OTHER)
    groups = {
        _LISTS: _VALUES.format("lists"),
        _HASHES: _VALUES.format("hashes"),
        _SETS: "a cache of plain values has no sets: tags do what sets of keys are for; use "
        "TAG.SET, TAG.INVALIDATE, TAG.KEYS, or tag rules in the configuration",
        _SORTED_SETS: _VALUES.format("sorted sets"),
        _STREAMS: _VALUES.format("streams"),
        _BITS: _VALUES.format("bitmaps, sketches or geospatial indexes"),
        _PUBSUB: "there are no channels; use /events over HTTP for events of the cache",
        _CLUSTER: "this server is not a cluster; use a client for a single server",
        _REPLICATION: "this server has no replicas; several servers can share Redis: see "
        "engine.backend",
        _SAVING: "use persistence.snapshot_file in the configuration",
    }
    for verbs, text in groups.items():
        advice.update(dict.fromkeys(verbs.split(), text))
    return advice


def _refuse(verb: str, advice: str) -> RespCommand:
    def run(caller: Any, arguments: list[bytes]) -> NoReturn:
        raise RedisError(f"ERR {verb} is not supported: {advice}", "not_supported")

    return RespCommand(
        verb.encode("ascii"), -1, run, transaction=False, refused=True, most=MAX_ARGUMENTS
    )


REFUSED_COMMANDS = tuple(_refuse(verb, advice) for verb, advice in _advice().items())
