// cppcheck does not read the system's headers; this macro of cJSON it must know to parse its loops.
#define cJSON_ArrayForEach(e, a) for (e = (a)->child; e; e = e->next)
