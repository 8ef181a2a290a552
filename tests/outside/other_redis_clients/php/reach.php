<?php
// Stores and reads a large value over TLS or at a path.

declare(strict_types=1);

$redis = new Redis();
if (getenv('SOCKET')) {
    $redis->connect(getenv('SOCKET'));
} else {
    $trust = ['stream' => ['cafile' => getenv('AUTHORITY')]];
    $redis->connect('tls://' . getenv('HOST'), (int) getenv('PORT'), 30, null, 0, 30, $trust);
}
$large = str_repeat('x', 300_000);
$redis->set('k', $large);
echo json_encode($redis->get('k') === $large), "\n";
