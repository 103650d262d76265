/* Names and operations of the element type that a file of runs is included for: ELEMENT, VECTOR (the prefix
 * of its operations), WIDTH, and where there are masks MASK (the prefix of theirs) are defined by then. */
#ifndef FOVEA_CPU_OF_TYPE_H
#define FOVEA_CPU_OF_TYPE_H

#define JOINED(a, b) a##b
#define JOIN(a, b) JOINED(a, b)
#define OF_TYPE(name) JOIN(name##_, ELEMENT)
#define V(operation) JOIN(VECTOR, JOIN(_, operation))
#define M(operation) JOIN(MASK, JOIN(_, operation))

#endif
