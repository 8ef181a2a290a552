#!/usr/bin/env bash
# image.sh [OPTION...]: build the image of the Dockerfile, and check a container with the limits of
# docs/examples/compose/one. Needs docker and curl. The options are those of `docker build`.
set -euo pipefail
cd "$(dirname "$0")/.."

name=tagcache-image-test
# Remove what a run leaves behind.
clean() {
    docker rm --force --volumes "$name" >/dev/null 2>&1 || true
    docker volume rm "$name" >/dev/null 2>&1 || true
}
failed() {
    echo "failed: $*" >&2
    docker logs "$name" >&2 || true
    exit 1
}
# Wait until a container is healthy.
healthy() {
    for _ in $(seq 120); do
        [ "$(docker inspect -f '{{.State.Health.Status}}' "$name")" != healthy ] || return 0
        sleep 0.5
    done
    failed "it is not healthy"
}
said() {
    docker exec "$name" tagcache "$@"
}
# Wait until the log contains a text.
logged() {
    for _ in $(seq 60); do
        ! grep -q "$1" <<<"$(docker logs "$name" 2>&1)" || return 0
        sleep 0.5
    done
    return 1
}

clean
trap clean EXIT
docker build --tag tagcache "$@" .

echo "== without a password it does not start"
output=$(docker run --rm --name "$name" --read-only tagcache 2>&1) && failed "it started"
grep -q "the password is the default one" <<<"$output" || failed "$output"

echo "== read-only, without root and capabilities, it serves and is healthy"
docker run --detach --name "$name" --env TAGCACHE_PASSWORD=of-this-test --publish 127.0.0.1::8080 \
    --volume "$name:/var/lib/tagcache" --read-only --cap-drop ALL --security-opt no-new-privileges \
    --memory 512m --ulimit nofile=20000 tagcache >/dev/null
healthy
[ "$(docker exec "$name" id -u)" = 10001 ] || failed "it runs as another user"
logged "native core: in use" || failed "no native core"
said put k value --tags t
[ "$(said get key k)" = value ] || failed "the value is not there"
at=$(docker port "$name" 8080 | head -n 1)
[ "$(curl -s -o /dev/null -w '%{http_code}' "http://$at/get/k")" = 401 ] || failed "nobody was asked who they are"
curl -sf -u admin:of-this-test "http://$at/get/k" | grep -q value || failed "not there from outside"

echo "== SIGHUP reloads, SIGTERM stops, and a snapshot keeps the entries"
docker kill --signal HUP "$name" >/dev/null
logged "reload: 0 settings changed" || failed "no reload"
docker stop --time 30 "$name" >/dev/null
[ "$(docker inspect -f '{{.State.ExitCode}}' "$name")" = 0 ] || failed "it did not stop by itself"
docker start "$name" >/dev/null
healthy
[ "$(said get key k)" = value ] || failed "the value is gone"
! docker logs "$name" 2>&1 | grep Traceback || failed "a traceback"
echo "== passed"
