/* A load generator for caches: one thread, epoll, many connections.
 *
 * Closed loop (the default): each connection sends a batch of --pipeline requests, and the next
 * batch as soon as the last reply has arrived. The latency is that of the batch.
 *
 * Open loop (--rate): requests are sent at fixed times, whether replies have arrived or not, on
 * one connection after the other. The latency counts from the time at which the request was due,
 * so a stall of the server is charged to every request that it delays.
 *
 * Every reply is checked: a value must have the expected length. The result is one line of JSON.
 *
 *   load --port 1984 --connections 32 --pipeline 1 --seconds 5 --mode get --keys 10000
 *
 * --mode      get, put, mix (90 % get, 10 % put), or fill (puts every key once, then ends)
 * --protocol  line, resp, or memcached; tags and --ttl are not for memcached
 * --tags      patterns separated by commas: t:100 is the tag t:N, where N is the number of the
 *             key modulo 100; a name alone is the same tag for all entries
 * --tagging   how tags are stored by RESP: command (TAG.SET, as TagCache has it), sets (SET, and
 *             SADD of the key to a set for each tag, sent together), or a script's SHA-1, which is
 *             sent as EVALSHA with one key, and value, time to live and tags as arguments
 * --retag     1: the N of a tag is a random number, so that an entry gets other tags every time
 * --ttl       the times to live in milliseconds, evenly spread: FROM:TO
 * --prefix    the prefix of the keys; a number follows
 * --warmup    seconds before the measurement begins
 * --pid       the server's process, whose CPU time during the measurement is reported
 * --samples   a file for all latencies: pairs of 64-bit integers, the time at which the request
 *             was sent (or due) and the latency, in nanoseconds of the monotonic clock
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define MAX_TAGS 1000
#define EVENTS 1024
#define READ_SIZE (256 * 1024)
/* How long the open loop waits for the last replies. */
#define PATIENCE (10 * SECOND)

enum mode { GET, PUT, MIX, FILL };
enum protocol { LINE, RESP, MEMCACHED };
enum tagging { COMMAND, SETS, SCRIPT };

struct tag {
    char name[64];
    uint64_t count; /* 0: the name alone */
};

static struct {
    const char *host, *prefix, *samples, *script;
    int port, connections, pipeline;
    double seconds, warmup, rate;
    enum mode mode;
    enum protocol protocol;
    enum tagging tagging;
    bool retag;
    uint64_t keys, seed, ttl_from, ttl_to;
    size_t value_size;
    pid_t pid;
    struct tag tags[MAX_TAGS];
    int tag_count;
} options = {
    .host = "127.0.0.1", .prefix = "key:", .connections = 1, .pipeline = 1, .seconds = 1,
    .mode = GET, .protocol = LINE, .keys = 1000, .seed = 1, .value_size = 100,
};

struct request {
    int64_t start;
    bool is_put;
    /* The replies that it gets. */
    int replies;
};

struct connection {
    int socket;
    bool waits_to_write;
    /* The bytes to send. */
    char *output;
    size_t output_size, output_used, output_sent;
    /* Requests without a reply yet: a ring that grows as needed. */
    struct request *requests;
    size_t requests_size, requests_first, requests_count;
    /* The reply being read: the beginning of its line, and the length so far. */
    char head[128];
    size_t head_length, line_length;
    /* The missing bytes of a value, and how its reply counts once they have arrived. */
    size_t skip;
    bool found, wrong_length;
};

/* A histogram of latencies by their leading bits, exact to one part in 128. */
#define FINE 128
static uint64_t histogram[64 * FINE];

static struct {
    int64_t begin, cpu_begin, longest;
    uint64_t operations, errors, misses, batches, outstanding;
} measured;

static int64_t *samples;
static size_t samples_used, samples_size;
static uint64_t next_key;
static uint64_t random_state;
static char *value;
static int poller;
static bool stopping;

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *grown(void *memory, size_t size)
{
    memory = realloc(memory, size);
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

static int64_t clock_now(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0)
        fail("clock_gettime: %s", strerror(errno));
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int64_t now(void)
{
    return clock_now(CLOCK_MONOTONIC);
}

static int64_t server_cpu(void)
{
    clockid_t clock;
    int error;
    if (options.pid == 0)
        return 0;
    error = clock_getcpuclockid(options.pid, &clock);
    if (error != 0)
        fail("the CPU time of process %d: %s", (int)options.pid, strerror(error));
    return clock_now(clock);
}

static uint64_t random_number(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 2685821657736338717ULL;
}

static size_t bucket_of(uint64_t latency)
{
    int shift;
    if (latency < 2 * FINE)
        return latency;
    shift = 63 - __builtin_clzll(latency) - 7;
    return (size_t)shift * FINE + (latency >> shift);
}

static double bucket_middle(size_t bucket)
{
    size_t shift;
    if (bucket < 2 * FINE)
        return (double)bucket;
    shift = bucket / FINE - 1;
    return ((double)(bucket % FINE + FINE) + 0.5) * (double)(1ULL << shift);
}

static double percentile(double share)
{
    uint64_t rank = (uint64_t)(share * (double)measured.batches), seen = 0;
    for (size_t bucket = 0; bucket < sizeof histogram / sizeof *histogram; bucket++) {
        seen += histogram[bucket];
        if (seen > rank) {
            double middle = bucket_middle(bucket);
            return middle < (double)measured.longest ? middle : (double)measured.longest;
        }
    }
    return (double)measured.longest;
}

static void record(int64_t start, int64_t latency)
{
    measured.batches++;
    histogram[bucket_of((uint64_t)latency)]++;
    if (latency > measured.longest)
        measured.longest = latency;
    if (options.samples == NULL)
        return;
    if (samples_used == samples_size) {
        samples_size = samples_size ? 2 * samples_size : 65536;
        samples = grown(samples, samples_size * sizeof *samples);
    }
    samples[samples_used++] = start;
    samples[samples_used++] = latency;
}

static char *room(struct connection *connection, size_t wanted)
{
    if (connection->output_size - connection->output_used < wanted) {
        while (connection->output_size - connection->output_used < wanted)
            connection->output_size = connection->output_size ? 2 * connection->output_size : 1024;
        connection->output = grown(connection->output, connection->output_size);
    }
    return connection->output + connection->output_used;
}

static void append(struct connection *connection, const char *data, size_t length)
{
    memcpy(room(connection, length), data, length);
    connection->output_used += length;
}

__attribute__((format(printf, 2, 3)))
static void append_format(struct connection *connection, const char *format, ...)
{
    va_list arguments;
    char *place = room(connection, 2048);
    int length;
    va_start(arguments, format);
    length = vsnprintf(place, 2048, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= 2048)
        fail("a key or a tag is too long");
    connection->output_used += (size_t)length;
}

static uint64_t random_ttl(void)
{
    return options.ttl_from + random_number() % (options.ttl_to - options.ttl_from + 1);
}

/* Writes the name of a tag of an entry. */
static void tag_name(char *name, size_t size, const struct tag *tag, uint64_t key)
{
    if (tag->count == 0)
        snprintf(name, size, "%s", tag->name);
    else
        snprintf(name, size, "%s:%" PRIu64, tag->name,
                 (options.retag ? random_number() : key) % tag->count);
}

static void append_line_put(struct connection *connection, uint64_t key)
{
    char name[128];
    append_format(connection, "PUT\t%s%" PRIu64 "\t", options.prefix, key);
    if (options.ttl_to == 0)
        append(connection, "-", 1);
    else
        append_format(connection, "%" PRIu64, random_ttl());
    append(connection, "\t", 1);
    for (int place = 0; place < options.tag_count; place++) {
        tag_name(name, sizeof name, &options.tags[place], key);
        append_format(connection, "%s%s", place > 0 ? "," : "", name);
    }
    append(connection, options.tag_count ? "\t" : "-\t", options.tag_count ? 1 : 2);
    append(connection, value, options.value_size);
    append(connection, "\n", 1);
}

static void append_bulk(struct connection *connection, const char *data, size_t length)
{
    append_format(connection, "$%zu\r\n", length);
    append(connection, data, length);
    append(connection, "\r\n", 2);
}

static void append_word(struct connection *connection, const char *word)
{
    append_bulk(connection, word, strlen(word));
}

static void append_resp_tags(struct connection *connection, uint64_t key)
{
    char name[128];
    for (int place = 0; place < options.tag_count; place++) {
        tag_name(name, sizeof name, &options.tags[place], key);
        append_word(connection, name);
    }
}

/* EVALSHA sha1 1 key value ttl tag ...; the ttl is 0 without --ttl. */
static void append_script_put(struct connection *connection, const char *name, uint64_t key)
{
    char ttl[32];
    snprintf(ttl, sizeof ttl, "%" PRIu64, random_ttl());
    append_format(connection, "*%d\r\n", 6 + options.tag_count);
    append_word(connection, "EVALSHA");
    append_word(connection, options.script);
    append_word(connection, "1");
    append_word(connection, name);
    append_bulk(connection, value, options.value_size);
    append_word(connection, ttl);
    append_resp_tags(connection, key);
}

/* SET key value [PX ttl], or TAG.SET key value [PX ttl] TAGS count tag ... */
static void append_set(struct connection *connection, const char *name, uint64_t key)
{
    bool tags = options.tag_count > 0 && options.tagging == COMMAND;
    char number[32];
    append_format(connection, "*%d\r\n",
                  3 + (options.ttl_to ? 2 : 0) + (tags ? 2 + options.tag_count : 0));
    append_word(connection, tags ? "TAG.SET" : "SET");
    append_word(connection, name);
    append_bulk(connection, value, options.value_size);
    if (options.ttl_to) {
        append_word(connection, "PX");
        snprintf(number, sizeof number, "%" PRIu64, random_ttl());
        append_word(connection, number);
    }
    if (tags) {
        append_word(connection, "TAGS");
        snprintf(number, sizeof number, "%d", options.tag_count);
        append_word(connection, number);
        append_resp_tags(connection, key);
    }
}

static void append_sadds(struct connection *connection, const char *name, uint64_t key)
{
    char tag[128];
    for (int place = 0; place < options.tag_count; place++) {
        tag_name(tag, sizeof tag, &options.tags[place], key);
        append_format(connection, "*3\r\n$4\r\nSADD\r\n");
        append_word(connection, tag);
        append_word(connection, name);
    }
}

/* Returns the number of replies. */
static int append_put(struct connection *connection, uint64_t key)
{
    char name[256];
    if (options.protocol == LINE) {
        append_line_put(connection, key);
        return 1;
    }
    snprintf(name, sizeof name, "%s%" PRIu64, options.prefix, key);
    if (options.protocol == MEMCACHED) {
        append_format(connection, "set %s 0 0 %zu\r\n", name, options.value_size);
        append(connection, value, options.value_size);
        append(connection, "\r\n", 2);
        return 1;
    }
    if (options.tagging == SCRIPT) {
        append_script_put(connection, name, key);
        return 1;
    }
    append_set(connection, name, key);
    if (options.tagging == COMMAND)
        return 1;
    append_sadds(connection, name, key);
    return 1 + options.tag_count;
}

static void append_get(struct connection *connection, uint64_t key)
{
    char name[256];
    int length = snprintf(name, sizeof name, "%s%" PRIu64, options.prefix, key);
    if (options.protocol == LINE)
        append_format(connection, "GET\t%s\n", name);
    else if (options.protocol == RESP)
        append_format(connection, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", length, name);
    else
        append_format(connection, "get %s\r\n", name);
}

static void expect_reply(struct connection *connection, int64_t start, bool is_put, int replies)
{
    size_t place;
    if (connection->requests_count == connection->requests_size) {
        size_t size = connection->requests_size ? 2 * connection->requests_size : 16;
        struct request *requests = grown(NULL, size * sizeof *requests);
        for (place = 0; place < connection->requests_count; place++)
            requests[place] = connection->requests[(connection->requests_first + place)
                                                   % connection->requests_size];
        free(connection->requests);
        connection->requests = requests;
        connection->requests_size = size;
        connection->requests_first = 0;
    }
    place = (connection->requests_first + connection->requests_count) % connection->requests_size;
    connection->requests[place] = (struct request){.start = start, .is_put = is_put,
                                                   .replies = replies};
    connection->requests_count++;
    measured.outstanding++;
}

static void add_request(struct connection *connection, int64_t start)
{
    uint64_t key = options.mode == FILL ? next_key++ : random_number() % options.keys;
    bool is_put = options.mode == PUT || options.mode == FILL
        || (options.mode == MIX && random_number() % 10 == 0);
    int replies = 1;
    if (is_put)
        replies = append_put(connection, key);
    else
        append_get(connection, key);
    expect_reply(connection, start, is_put, replies);
}

static void watch(struct connection *connection, int operation, bool for_writing)
{
    struct epoll_event event = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0),
                                .data.ptr = connection};
    if (epoll_ctl(poller, operation, connection->socket, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
    connection->waits_to_write = for_writing;
}

static void flush(struct connection *connection)
{
    while (connection->output_sent < connection->output_used) {
        ssize_t sent = send(connection->socket, connection->output + connection->output_sent,
                            connection->output_used - connection->output_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            if (!connection->waits_to_write)
                watch(connection, EPOLL_CTL_MOD, true);
            return;
        }
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            fail("send: %s", strerror(errno));
        connection->output_sent += (size_t)sent;
    }
    connection->output_used = connection->output_sent = 0;
    if (connection->waits_to_write)
        watch(connection, EPOLL_CTL_MOD, false);
}

static void send_batch(struct connection *connection)
{
    int64_t start = now();
    for (int place = 0; place < options.pipeline; place++) {
        if (options.mode == FILL && next_key == options.keys)
            break;
        add_request(connection, start);
    }
    flush(connection);
}

static void end_of_reply(struct connection *connection, bool good, bool miss)
{
    struct request request;
    if (connection->requests_count == 0)
        fail("a reply that nobody asked for");
    if (--connection->requests[connection->requests_first].replies > 0) {
        measured.errors += !good;
        return;
    }
    request = connection->requests[connection->requests_first];
    connection->requests_first = (connection->requests_first + 1) % connection->requests_size;
    connection->requests_count--;
    measured.outstanding--;
    measured.operations++;
    measured.errors += !good;
    measured.misses += miss;
    if (options.rate > 0) {
        record(request.start, now() - request.start);
    } else if (connection->requests_count == 0) {
        record(request.start, now() - request.start);
        if (!stopping)
            send_batch(connection);
    }
}

static void line_reply(struct connection *connection, bool is_put)
{
    const char *head = connection->head;
    if (is_put)
        end_of_reply(connection, strcmp(head, "OK\n") == 0, false);
    else if (strncmp(head, "VALUE\t", 6) == 0)
        end_of_reply(connection, connection->line_length == options.value_size + 7, false);
    else
        end_of_reply(connection, strcmp(head, "NF\n") == 0, strcmp(head, "NF\n") == 0);
}

static void resp_reply(struct connection *connection, bool is_put)
{
    const char *head = connection->head;
    if (head[0] == '$' && head[1] != '-') {
        size_t length = strtoull(head + 1, NULL, 10);
        connection->wrong_length = is_put || length != options.value_size;
        connection->skip = length + 2;
    } else if (is_put) {
        end_of_reply(connection, head[0] == '+' || head[0] == ':', false);
    } else {
        end_of_reply(connection, head[0] == '$', head[0] == '$');
    }
}

static void memcached_reply(struct connection *connection, bool is_put)
{
    const char *head = connection->head;
    if (!is_put && strncmp(head, "VALUE ", 6) == 0) {
        size_t length = 0;
        if (sscanf(head, "VALUE %*s %*s %zu", &length) != 1)
            fail("cannot read: %s", head);
        connection->found = true;
        connection->wrong_length = length != options.value_size;
        connection->skip = length + 2;
    } else if (!is_put && strcmp(head, "END\r\n") == 0) {
        bool found = connection->found;
        connection->found = false;
        end_of_reply(connection, !(found && connection->wrong_length), !found);
    } else {
        end_of_reply(connection, is_put && strcmp(head, "STORED\r\n") == 0, false);
    }
}

static void end_of_line(struct connection *connection)
{
    bool is_put;
    if (connection->requests_count == 0)
        fail("a line that nobody asked for: %s", connection->head);
    is_put = connection->requests[connection->requests_first].is_put;
    connection->head[connection->head_length] = '\0';
    if (options.protocol == LINE)
        line_reply(connection, is_put);
    else if (options.protocol == RESP)
        resp_reply(connection, is_put);
    else
        memcached_reply(connection, is_put);
    connection->head_length = connection->line_length = 0;
}

/* Replies may arrive in pieces of any size. Of a line only its beginning and length are kept.
 * Values that are preceded by their length are skipped. */
static void take(struct connection *connection, const char *data, size_t length)
{
    while (length > 0) {
        const char *end;
        size_t piece, kept;
        if (connection->skip > 0) {
            piece = connection->skip < length ? connection->skip : length;
            data += piece;
            length -= piece;
            connection->skip -= piece;
            if (connection->skip == 0 && options.protocol == RESP)
                end_of_reply(connection, !connection->wrong_length, false);
            continue;
        }
        end = memchr(data, '\n', length);
        piece = end == NULL ? length : (size_t)(end - data) + 1;
        kept = sizeof connection->head - 1 - connection->head_length;
        kept = kept < piece ? kept : piece;
        memcpy(connection->head + connection->head_length, data, kept);
        connection->head_length += kept;
        connection->line_length += piece;
        data += piece;
        length -= piece;
        if (end != NULL)
            end_of_line(connection);
    }
}

static void receive(struct connection *connection)
{
    static char buffer[READ_SIZE];
    ssize_t length = recv(connection->socket, buffer, sizeof buffer, 0);
    if (length > 0)
        take(connection, buffer, (size_t)length);
    else if (length == 0)
        fail("the server has closed a connection");
    else if (errno != EAGAIN && errno != EINTR)
        fail("recv: %s", strerror(errno));
}

static struct connection *connect_all(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    struct connection *connections = calloc((size_t)options.connections, sizeof *connections);
    if (connections == NULL)
        fail("out of memory");
    if (inet_pton(AF_INET, options.host, &address.sin_addr) != 1)
        fail("%s is not an IPv4 address", options.host);
    for (int place = 0; place < options.connections; place++) {
        int one = 1, sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (sock < 0)
            fail("socket: %s", strerror(errno));
        if (connect(sock, (struct sockaddr *)&address, sizeof address) != 0)
            fail("connect: %s", strerror(errno));
        if (setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0
            || fcntl(sock, F_SETFL, O_NONBLOCK) != 0)
            fail("cannot set an option of a socket: %s", strerror(errno));
        connections[place].socket = sock;
        watch(&connections[place], EPOLL_CTL_ADD, false);
    }
    return connections;
}

static void handle(struct epoll_event *events, int count)
{
    for (int place = 0; place < count; place++) {
        struct connection *connection = events[place].data.ptr;
        if (connection == NULL)
            continue; /* the timer of the open loop */
        if (events[place].events & EPOLLOUT)
            flush(connection);
        if (events[place].events & ~(uint32_t)EPOLLOUT)
            receive(connection);
    }
}

static int wait_for_events(struct epoll_event *events, int64_t until)
{
    int64_t left = until - now();
    int count = epoll_wait(poller, events, EVENTS, left > 0 ? (int)(left / 1000000 + 1) : 0);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    return count;
}

static void begin_measurement(void)
{
    uint64_t outstanding = measured.outstanding;
    memset(&measured, 0, sizeof measured);
    memset(histogram, 0, sizeof histogram);
    samples_used = 0;
    measured.outstanding = outstanding;
    measured.cpu_begin = server_cpu();
    measured.begin = now();
}

static void closed_loop(struct connection *connections, struct epoll_event *events)
{
    int64_t begin = now() + (int64_t)(options.warmup * SECOND);
    int64_t end = begin + (int64_t)(options.seconds * SECOND);
    bool warm = false;
    if (options.mode == FILL) {
        begin_measurement();
        warm = true;
        end = INT64_MAX - SECOND;
    }
    for (int place = 0; place < options.connections; place++)
        send_batch(&connections[place]);
    for (;;) {
        int64_t moment = now();
        if (!warm && moment >= begin) {
            begin_measurement();
            warm = true;
        }
        if (moment >= end || (options.mode == FILL && measured.outstanding == 0))
            return;
        handle(events, wait_for_events(events, options.mode == FILL ? moment + SECOND
                                               : warm ? end : begin));
    }
}

static void open_loop(struct connection *connections, struct epoll_event *events)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    int64_t begin = now() + SECOND / 100;
    int64_t warm_at = begin + (int64_t)(options.warmup * SECOND);
    int64_t end = warm_at + (int64_t)(options.seconds * SECOND);
    int64_t interval = (int64_t)((double)SECOND / options.rate);
    uint64_t sent = 0, expirations;
    bool warm = false;
    struct itimerspec spec = {
        .it_value = {.tv_sec = begin / SECOND, .tv_nsec = begin % SECOND},
        .it_interval = {.tv_sec = interval / SECOND, .tv_nsec = interval % SECOND},
    };
    if (timer < 0 || timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL) != 0
        || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event) != 0)
        fail("timer: %s", strerror(errno));
    for (;;) {
        int64_t moment = now(), due;
        if (!warm && moment >= warm_at) {
            begin_measurement();
            warm = true;
        }
        while ((due = begin + (int64_t)sent * interval) <= moment && due < end) {
            struct connection *connection = &connections[sent++ % (uint64_t)options.connections];
            add_request(connection, due);
            flush(connection);
        }
        stopping = due >= end;
        if (stopping && (measured.outstanding == 0 || moment > end + PATIENCE))
            break;
        handle(events, wait_for_events(events, moment + SECOND));
        if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
            fail("timer: %s", strerror(errno));
    }
    /* Requests that were never answered. */
    measured.errors += measured.outstanding;
    close(timer);
}

static void write_samples(void)
{
    FILE *file;
    if (options.samples == NULL)
        return;
    file = fopen(options.samples, "wb");
    if (file == NULL || fwrite(samples, sizeof *samples, samples_used, file) != samples_used
        || fclose(file) != 0)
        fail("%s: %s", options.samples, strerror(errno));
}

static void print_result(int64_t cpu_end, int64_t end)
{
    double microsecond = 1000;
    printf("{\"operations\": %" PRIu64 ", \"seconds\": %.6f, \"errors\": %" PRIu64
           ", \"misses\": %" PRIu64 ", \"p50_microseconds\": %.1f, \"p99_microseconds\": %.1f"
           ", \"p999_microseconds\": %.1f, \"max_microseconds\": %.1f"
           ", \"server_cpu_seconds\": %.6f}\n",
           measured.operations, (double)(end - measured.begin) / SECOND, measured.errors,
           measured.misses, percentile(0.5) / microsecond, percentile(0.99) / microsecond,
           percentile(0.999) / microsecond, (double)measured.longest / microsecond,
           (double)(cpu_end - measured.cpu_begin) / SECOND);
}

static int one_of(const char *name, const char *const *names, const char *what)
{
    for (int place = 0; names[place] != NULL; place++)
        if (strcmp(name, names[place]) == 0)
            return place;
    fail("%s: %s", what, name);
    return 0;
}

static void read_tags(char *text)
{
    for (char *name = strtok(text, ","); name != NULL; name = strtok(NULL, ",")) {
        struct tag *tag = &options.tags[options.tag_count++];
        char *colon = strchr(name, ':');
        if (options.tag_count == MAX_TAGS || strlen(name) >= sizeof tag->name)
            fail("too many tags, or too long ones");
        if (colon != NULL) {
            tag->count = strtoull(colon + 1, NULL, 10);
            *colon = '\0';
        }
        strcpy(tag->name, name);
    }
}

static void read_tagging(const char *text)
{
    options.tagging = strcmp(text, "command") == 0 ? COMMAND
        : strcmp(text, "sets") == 0                ? SETS
                                                   : SCRIPT;
    options.script = text;
}

static void read_options(int count, char **arguments)
{
    static const char *const modes[] = {"get", "put", "mix", "fill", NULL};
    static const char *const protocols[] = {"line", "resp", "memcached", NULL};
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},      {"port", required_argument, NULL, 'p'},
        {"connections", required_argument, NULL, 'c'}, {"pipeline", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 's'},   {"warmup", required_argument, NULL, 'w'},
        {"rate", required_argument, NULL, 'r'},      {"mode", required_argument, NULL, 'm'},
        {"protocol", required_argument, NULL, 'o'},  {"keys", required_argument, NULL, 'k'},
        {"value-size", required_argument, NULL, 'v'}, {"tags", required_argument, NULL, 't'},
        {"ttl", required_argument, NULL, 'l'},       {"prefix", required_argument, NULL, 'x'},
        {"pid", required_argument, NULL, 'i'},       {"samples", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 'e'},      {"tagging", required_argument, NULL, 'g'},
        {"retag", required_argument, NULL, 'a'},     {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
        switch (option) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 'd': options.pipeline = atoi(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'm': options.mode = (enum mode)one_of(optarg, modes, "no such mode"); break;
        case 'o': options.protocol = (enum protocol)one_of(optarg, protocols, "no such protocol"); break;
        case 'k': options.keys = strtoull(optarg, NULL, 10); break;
        case 'v': options.value_size = strtoull(optarg, NULL, 10); break;
        case 't': read_tags(optarg); break;
        case 'l':
            if (sscanf(optarg, "%" SCNu64 ":%" SCNu64, &options.ttl_from, &options.ttl_to) != 2
                || options.ttl_to < options.ttl_from)
                fail("--ttl must be FROM:TO");
            break;
        case 'x': options.prefix = optarg; break;
        case 'i': options.pid = atoi(optarg); break;
        case 'f': options.samples = optarg; break;
        case 'e': options.seed = strtoull(optarg, NULL, 10); break;
        case 'g': read_tagging(optarg); break;
        case 'a': options.retag = atoi(optarg) != 0; break;
        default: exit(2);
        }
    }
    if (optind < count || options.port == 0 || options.connections < 1 || options.pipeline < 1
        || options.keys == 0 || options.seconds <= 0 || options.rate < 0 || options.warmup < 0
        || strlen(options.prefix) > 200)
        fail("an option is missing or cannot be used; see the head of load.c");
    if (options.rate > 0 && options.mode == FILL)
        fail("--rate and --mode fill exclude each other");
}

int main(int count, char **arguments)
{
    struct rlimit files;
    struct connection *connections;
    static struct epoll_event events[EVENTS];
    int64_t cpu_end, end;
    read_options(count, arguments);
    random_state = options.seed * 0x9E3779B97F4A7C15ULL | 1;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    value = grown(NULL, options.value_size + 1);
    memset(value, 'x', options.value_size);
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = connect_all();
    if (options.rate > 0)
        open_loop(connections, events);
    else
        closed_loop(connections, events);
    cpu_end = server_cpu();
    end = now();
    print_result(cpu_end, end);
    write_samples();
    return 0;
}
