<?php
// A site that counts the visits of each visitor in a session of PHP.

declare(strict_types=1);

session_start();
$visits = $_SESSION['visits'] ?? 0;
switch ($_SERVER['REQUEST_URI']) {
    case '/visit':
        // Without a lock of the session, visits at the same time would get lost.
        usleep(5000);
        $_SESSION['visits'] = ++$visits;
        break;
    case '/leave':
        session_destroy();
        $visits = 0;
        break;
    case '/new-id':
        session_regenerate_id(true);
        break;
}
echo json_encode($visits);
