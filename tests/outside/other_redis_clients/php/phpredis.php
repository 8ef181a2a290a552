<?php
// The extension redis of PHP.

declare(strict_types=1);

require __DIR__ . '/harness.php';

define('BYTES', implode('', array_map('chr', range(0, 255))));
define('COMPARE_AND_DELETE', <<<'LUA'
if redis.call("get",KEYS[1]) == ARGV[1] then
    return redis.call("del",KEYS[1])
else
    return 0
end
LUA);

simple("stores and reads", function (Redis $redis) {
    same(true, $redis->set('k', 'v', ['nx', 'ex' => 10]));
    same(false, $redis->set('k', 'other', ['nx', 'ex' => 10]));
    same(true, $redis->set('k', 'new', ['xx', 'px' => 100_000]));
    same('new', $redis->get('k'));
    same(false, $redis->get('none'));
    same(true, $redis->setex('k', 100, 'v'));
    same(true, $redis->setnx('l', 'w'));
    same('w', $redis->getSet('l', 'x'));
    same('x', $redis->rawCommand('GETDEL', 'l'));
    same(1, $redis->exists('k', 'l'));
    same(1, $redis->del(['k', 'l']));
});

simple("keeps bytes", function (Redis $redis) {
    same(true, $redis->set(BYTES, BYTES));
    same(BYTES, $redis->get(BYTES));
    same([BYTES, false], $redis->mGet([BYTES, 'none']));
    same(258, $redis->append(BYTES, "\r\n"));
    same("\xff\r\n", $redis->getRange(BYTES, 255, -1));
    same(258, $redis->setRange(BYTES, 256, '..'));
    same(258, $redis->strlen(BYTES));
    $large = str_repeat('x', 900_000);
    $redis->set('large', $large);
    same($large, $redis->get('large'));
});

simple("counts", function (Redis $redis) {
    same(1, $redis->incr('n'));
    same(-4, $redis->decrBy('n', 5));
    same(-3.5, $redis->incrByFloat('n', 0.5));
    refused($redis, '/^ERR value is not an integer or out of range/', fn () => $redis->incr('n'));
});

simple("takes many keys", function (Redis $redis) {
    same(true, $redis->mSet(['a' => '1', 'b' => '2']));
    same(false, (bool) $redis->mSetNx(['b' => '3', 'c' => '3']));
    same(['2', false, '1'], $redis->mGet(['b', 'c', 'a']));
    same(true, $redis->rename('a', 'A'));
    same(Redis::REDIS_STRING, $redis->type('A'));
    $keys = $redis->keys('*');
    sort($keys);
    same(['A', 'b'], $keys);
    same(2, $redis->unlink(['A', 'b', 'c']));
});

simple("sets and reads times to live", function (Redis $redis) {
    $redis->set('k', 'v');
    same(-1, $redis->ttl('k'));
    same(true, $redis->expire('k', 100));
    same(true, $redis->pExpireAt('k', (time() + 200) * 1000));
    $left = $redis->pttl('k');
    same(true, $left > 150_000 && $left <= 200_000);
    same(true, $redis->persist('k'));
    same(false, $redis->persist('k'));
    same(-2, $redis->ttl('none'));
});

simple("pipelines", function (Redis $redis) {
    $pipeline = $redis->pipeline();
    foreach (range(1, 500) as $number) {
        $pipeline->set("k$number", (string) $number)->get("k$number");
    }
    $results = $pipeline->exec();
    same(1000, count($results));
    same([true, '1', true, '2'], array_slice($results, 0, 4));
    same([true, false, 'x'], $redis->pipeline()->set('s', 'x')->incr('s')->get('s')->exec());
});

simple("runs transactions", function (Redis $redis) {
    same([true, 2, '2'], $redis->multi()->set('k', '1')->incr('k')->get('k')->exec());
    same([true, false, 'x'], $redis->multi()->set('k', 'x')->incr('k')->get('k')->exec());
    $redis->multi()->set('k', 'y');
    same(true, $redis->discard());
    same('x', $redis->get('k'));
});

simple("aborts a transaction if a watched key has changed", function (Redis $redis) {
    same(true, $redis->watch('k'));
    connected()->set('k', '2');
    same(false, $redis->multi()->set('k', '3')->exec());
    same('2', $redis->get('k'));
});

simple("scans", function (Redis $redis) {
    $redis->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    foreach (range(0, 499) as $number) {
        $redis->mSet(["a:$number" => '1', "b:$number" => '1']);
    }
    $cursor = null;
    $found = [];
    while ($keys = $redis->scan($cursor, 'a:*', 50)) {
        foreach ($keys as $key) {
            $found[$key] = true;
        }
    }
    same(500, count($found));
    same(1000, $redis->dbSize());
});

simple("serializes", function (Redis $redis) {
    $value = ['a' => [1, 2.5, null, true], 'text' => BYTES];
    foreach ([Redis::SERIALIZER_PHP, Redis::SERIALIZER_IGBINARY] as $serializer) {
        $redis->setOption(Redis::OPT_SERIALIZER, $serializer);
        same(true, $redis->set('k', $value, 100));
        same($value, $redis->get('k'));
        same([$value, false], $redis->mGet(['k', 'none']));
    }
    $redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_JSON);
    $redis->set('k', ['ä' => 1]);
    same(['ä' => 1], $redis->get('k'));
});

simple("prefixes keys", function (Redis $redis) {
    $redis->setOption(Redis::OPT_PREFIX, 'mine:');
    $redis->set('k', 'v');
    $redis->mSet(['a' => '1']);
    same('v', $redis->get('k'));
    $keys = connected()->keys('*');
    sort($keys);
    same(['mine:a', 'mine:k'], $keys);
    same(2, $redis->del('a', 'k'));
});

simple("asks the server about itself", function (Redis $redis) {
    same(true, $redis->ping());
    same('hello', $redis->ping('hello'));
    same('hello', $redis->echo('hello'));
    same('master', $redis->info()['role']);
    same(true, (bool) $redis->info('server')['redis_version']);
    same(['maxmemory-policy'], array_keys($redis->config('GET', 'maxmemory-policy')));
    same(true, $redis->client('setname', 'waiter'));
    same('waiter', $redis->client('getname'));
    same(true, in_array('waiter', array_column($redis->client('list'), 'name'), true));
    same(true, abs($redis->time()[0] - time()) < 60);
    same('master', $redis->rawCommand('ROLE')[0]);
});

simple("uses a numbered database", function (Redis $redis) {
    $redis->set('k', 'zero');
    same(true, $redis->select(1));
    same(false, $redis->get('k'));
    $redis->set('k', 'one');
    same('zero', connected()->get('k'));
    same(true, $redis->flushDB());
    same(0, $redis->dbSize());
    same(false, $redis->select(99));
});

test("logs in", function () {
    foreach ([[USER_NAME, PASSWORD], PASSWORD] as $credentials) {
        $redis = new Redis();
        $redis->connect(HOST, LOCKED_PORT);
        same(true, $redis->auth($credentials));
        same(true, $redis->set('k', 'v'));
        $redis->close();
    }
    $redis = new Redis();
    $redis->pconnect(HOST, LOCKED_PORT, 30, 'kept', 0, 30, ['auth' => [USER_NAME, PASSWORD]]);
    same('v', $redis->get('k'));
});

test("is told of a wrong password", function () {
    $redis = new Redis();
    $redis->connect(HOST, LOCKED_PORT);
    foreach ([fn () => $redis->auth([USER_NAME, 'wrong']), fn () => $redis->get('k')] as $number => $call) {
        try {
            $call();
        } catch (RedisException $error) {
            matches($number ? '/^NOAUTH/' : '/^WRONGPASS/', $error->getMessage());
            continue;
        }
        throw new Exception('it was not refused');
    }
});

simple("connects again after its connection was killed", function (Redis $redis) {
    $id = $redis->rawCommand('CLIENT', 'ID');
    $other = connected();
    $other->rawCommand('CLIENT', 'KILL', 'ID', (string) $id);
    // TagCache closes it in its next turn.
    same([true, true], [$other->ping(), $other->ping()]);
    same(true, $redis->set('k', 'v'));
    same(false, $id === $redis->rawCommand('CLIENT', 'ID'));
});

simple("knows the scripts of well-known clients", function (Redis $redis) {
    $redis->set('lock', 'mine', ['nx', 'px' => 10_000]);
    same(0, $redis->eval(COMPARE_AND_DELETE, ['lock', 'other'], 1));
    same(1, $redis->eval(COMPARE_AND_DELETE, ['lock', 'mine'], 1));
    same(false, $redis->evalSha(sha1('unknown'), ['lock'], 1));
    matches('/^NOSCRIPT/', $redis->getLastError());
    $add = "return redis.call('exists',KEYS[1])<1 and redis.call('setex',KEYS[1],ARGV[2],ARGV[1])";
    same(true, $redis->eval($add, ['k', 'v', '100'], 1));
    same(false, $redis->eval($add, ['k', 'v', '100'], 1));
});

testOurs("is told what is refused", function () {
    $redis = connected();
    refused($redis, '/^ERR .*script/', fn () => $redis->eval('return 1'));
    refused($redis, '/^ERR .*LPUSH/i', fn () => $redis->lPush('k', 'v'));
    refused($redis, '/^ERR .*HSET/i', fn () => $redis->hSet('k', 'f', 'v'));
    refused($redis, '/^ERR .*SADD/i', fn () => $redis->sAdd('k', 'v'));
    refused($redis, '/^ERR .*PUBLISH/i', fn () => $redis->publish('channel', 'text'));
    same(true, $redis->ping());
});

testOurs("tags entries", function () {
    $redis = connected();
    same(true, $redis->rawCommand('TAG.SET', 'k', 'v', 'EX', '100', 'TAGS', '2', 'red', 'blue'));
    same(true, $redis->rawCommand('TAG.SET', 'l', 'w', 'TAGS', '1', 'red'));
    same(['red', 'blue'], $redis->rawCommand('TAG.OF', 'k'));
    same(2, $redis->rawCommand('TAG.COUNT', 'red'));
    same([2, 0], $redis->pipeline()->rawCommand('TAG.INVALIDATE', '1', 'red')->exists('k')->exec());
});
