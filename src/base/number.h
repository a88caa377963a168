/* Numbers in files have a decimal point, also in a program whose locale has a comma. */
#ifndef WEFT_NUMBER_H
#define WEFT_NUMBER_H

#include <locale.h>

/* As strtod(). */
double weft_strtod(const char *text, char **end);
/* The calling thread prints and reads so until weft_number_end() of what this returned. */
locale_t weft_number_begin(void);
void weft_number_end(locale_t before);

#endif
