<?php
// The caches of Laravel and Symfony on the extension redis.

declare(strict_types=1);

require __DIR__ . '/harness.php';
require 'Illuminate/Cache/autoload.php';
require 'Illuminate/Redis/autoload.php';
require 'Symfony/Component/Cache/autoload.php';

use Illuminate\Cache\RedisStore;
use Illuminate\Cache\RateLimiter;
use Illuminate\Cache\Repository;
use Illuminate\Redis\RedisManager;
use Symfony\Component\Cache\Adapter\RedisAdapter;
use Symfony\Component\Cache\Adapter\RedisTagAwareAdapter;
use Symfony\Component\Cache\Psr16Cache;
use Symfony\Contracts\Cache\ItemInterface;

// What Laravel finds in config/database.php.
function laravel(array $options = []): Repository
{
    connected()->flushAll();
    $connection = ['host' => HOST, 'port' => PORT, 'database' => 0];
    $manager = new RedisManager(null, 'phpredis', ['options' => $options, 'default' => $connection]);
    return new Repository(new RedisStore($manager, 'laravel', 'default'));
}

test("Laravel stores and reads", function () {
    $cache = laravel();
    same(true, $cache->put('k', ['a' => [1, null]], 100));
    same(['a' => [1, null]], $cache->get('k'));
    same('instead', $cache->get('none', 'instead'));
    same(true, $cache->forever('l', 'v'));
    same(true, $cache->has('l'));
    same('v', $cache->pull('l'));
    same(false, $cache->has('l'));
    same(true, $cache->forget('k'));
    same(false, $cache->forget('k'));
});

test("Laravel adds only what is not there", function () {
    $cache = laravel();
    same(true, $cache->add('k', 'v', 100));
    same(false, $cache->add('k', 'w', 100));
    same('v', $cache->get('k'));
});

test("Laravel takes many keys", function () {
    $cache = laravel();
    same(true, $cache->putMany(['a' => 1, 'b' => 'two'], 100));
    same(['b' => 'two', 'none' => null], $cache->many(['b', 'none']));
    same(true, $cache->deleteMultiple(['a', 'b']));
    same(true, $cache->flush());
});

test("Laravel counts", function () {
    $cache = laravel();
    same(1, $cache->increment('n'));
    same(-4, $cache->decrement('n', 5));
    $limiter = new RateLimiter($cache);
    same([1, 2], [$limiter->hit('who', 100), $limiter->hit('who', 100)]);
    same(true, $limiter->tooManyAttempts('who', 2));
    same(true, $limiter->availableIn('who') > 90);
});

test("Laravel computes what is not there", function () {
    $cache = laravel();
    $calls = 0;
    foreach ([1, 2] as $_) {
        same('v', $cache->remember('k', 100, function () use (&$calls) {
            $calls++;
            return 'v';
        }));
    }
    same(1, $calls);
});

test("Laravel locks", function () {
    $cache = laravel();
    $lock = $cache->lock('l', 100);
    same(true, $lock->get());
    same(false, $cache->lock('l', 100)->get());
    same(false, $cache->lock('l', 100)->release());
    same(true, $lock->release());
    same('done', $cache->lock('l', 100)->block(1, fn () => 'done'));
    same(true, $cache->lock('l')->get());
});

test("Laravel prefixes keys", function () {
    $cache = laravel(['prefix' => 'app:']);
    $cache->put('k', 'v', 100);
    same(['app:laravel:k'], connected()->keys('*'));
    same(true, $cache->add('l', 'v', 100));
    same(true, $cache->lock('m', 100)->get());
});

testOurs("Laravel fails to use its own tags, which need sets", function () {
    $cache = laravel();
    // The extension throws no exception here.
    $cache->tags(['red'])->put('k', 'v', 100);
    matches('/^ERR SADD is not supported/', $cache->getStore()->connection()->getLastError());
});

function symfony(string $namespace = ''): RedisAdapter
{
    connected()->flushAll();
    return new RedisAdapter(RedisAdapter::createConnection('redis://' . HOST . ':' . PORT), $namespace);
}

test("Symfony computes what is not there", function () {
    $cache = symfony();
    $calls = 0;
    foreach ([1, 2] as $_) {
        same(['v'], $cache->get('k', function (ItemInterface $item) use (&$calls) {
            $calls++;
            $item->expiresAfter(100);
            return ['v'];
        }));
    }
    same(1, $calls);
    same(true, $cache->delete('k'));
    same(false, $cache->hasItem('k'));
});

test("Symfony saves several at once", function () {
    $cache = symfony();
    foreach (range(1, 100) as $number) {
        $cache->saveDeferred($cache->getItem("k$number")->set($number)->expiresAfter(100));
    }
    same(true, $cache->commit());
    $items = iterator_to_array($cache->getItems(['k7', 'none', 'k100']));
    same([7, null, 100], [$items['k7']->get(), $items['none']->get(), $items['k100']->get()]);
    same(true, $cache->deleteItems(['k7', 'k8', 'none']));
    same(false, $cache->hasItem('k7'));
});

test("Symfony clears a namespace and all", function () {
    $cache = symfony('mine');
    connected()->set('other', 'v');
    $cache->save($cache->getItem('k')->set('v'));
    same(true, $cache->clear());
    same(false, $cache->hasItem('k'));
    same(['other'], connected()->keys('*'));
    same(true, symfony()->clear());
    same(0, connected()->dbSize());
});

test("Symfony has PSR-16 on it", function () {
    $cache = new Psr16Cache(symfony());
    same(true, $cache->setMultiple(['a' => 1, 'b' => 2], 100));
    same(['a' => 1, 'none' => 'x'], iterator_to_array($cache->getMultiple(['a', 'none'], 'x')));
    same(true, $cache->delete('a'));
    same(true, $cache->clear());
});

testOurs("Symfony fails to use its own tags, which need sets", function () {
    $connection = RedisAdapter::createConnection('redis://' . HOST . ':' . PORT);
    $cache = new RedisTagAwareAdapter($connection);
    $item = $cache->getItem('k')->set('v')->tag(['red']);
    try {
        $cache->save($item);
    } catch (ErrorException $warning) {
        return;
    }
    throw new Exception('it was not refused');
});
