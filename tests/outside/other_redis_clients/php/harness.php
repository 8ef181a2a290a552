<?php
// Runs tests, and prints a line of JSON for each: its name, and what went wrong, or null.

declare(strict_types=1);

define('HOST', getenv('HOST'));
define('PORT', (int) getenv('PORT'));
// A server that clients have to log in to.
define('LOCKED_PORT', (int) getenv('LOCKED_PORT'));
define('USER_NAME', getenv('USER_NAME'));
define('PASSWORD', getenv('PASSWORD'));
define('AGAINST_REDIS', getenv('AGAINST') === 'redis');

// A warning is an error.
set_error_handler(function (int $severity, string $message, string $file, int $line) {
    throw new ErrorException($message, 0, $severity, $file, $line);
});

function test(string $name, callable $body): void
{
    try {
        $body();
        $error = null;
    } catch (Throwable $thrown) {
        $error = (string) $thrown;
    }
    echo json_encode(['name' => $name, 'error' => $error]), "\n";
}

// A test of what Redis does not do.
function testOurs(string $name, callable $body): void
{
    test($name, AGAINST_REDIS ? fn () => null : $body);
}

// A test with a connection to an empty server.
function simple(string $name, callable $body): void
{
    test($name, function () use ($body) {
        $redis = connected();
        $redis->flushAll();
        $body($redis);
        $redis->close();
    });
}

function connected(): Redis
{
    $redis = new Redis();
    $redis->connect(HOST, PORT, 30, null, 0, 30);
    return $redis;
}

function same(mixed $wanted, mixed $got): void
{
    if ($wanted !== $got) {
        throw new Exception('wanted ' . var_export($wanted, true) . ', got ' . var_export($got, true));
    }
}

function matches(string $pattern, ?string $text): void
{
    if ($text === null || !preg_match($pattern, $text)) {
        throw new Exception("wanted $pattern, got " . var_export($text, true));
    }
}

function refused(Redis $redis, string $pattern, callable $call): void
{
    $redis->clearLastError();
    same(false, $call());
    matches($pattern, $redis->getLastError());
}
