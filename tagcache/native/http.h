/* The interfaces between the parts that read and write HTTP. */

#ifndef TAGCACHE_HTTP_H
#define TAGCACHE_HTTP_H

#include "plain.h"

/* A head that may come again, in two parts: what is between them differs. */
typedef struct {
    PyObject *before, *after; /* bytes; NULL: there is none */
    PyObject *revoked;        /* list; once it has items, Python must check the head again */
    double until;             /* when Python must check it in any case */
    size_t most_body;
} Head;

/* The heads of one connection. */
struct HttpHeads {
    PyObject_HEAD
    Head look_up; /* around the key */
    Head store;   /* around the length of the body */
};

/* Read the JSON object with the entry to store; false if it is not plain. */
bool read_entry(Part body, Request *request);

#endif
