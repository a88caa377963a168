/* Template, included by reduce_body.h once per integer type: ELEMENT is the type, LOOP the name of the
 * function that is made. The loop over up to four sources that every integer kernel consists of. */
WEFT_ALWAYS_INLINE void LOOP(weft_builtin_op op, void *dst, const void *const *sources, unsigned n,
                             size_t count)
{
    typedef ELEMENT element __attribute__((aligned(1), may_alias));
    element *d = dst;
    const element *a = sources[0];
    const element *rest[3] = { n > 1 ? sources[1] : a, n > 2 ? sources[2] : a, n > 3 ? sources[3] : a };

    INDEPENDENT_ITERATIONS
    for (size_t i = 0; i < count; i++) {
        ELEMENT value = a[i];
        for (unsigned k = 1; k < n; k++) {
            ELEMENT other = rest[k - 1][i];
            switch (op) {
            /* The types' own width, unsigned and at least that of int, so that they wrap and loops stay
             * narrow. */
            case WEFT_SUM: value = (ELEMENT)(0u + value + other); break;
            case WEFT_PROD: value = (ELEMENT)(1u * value * other); break;
            case WEFT_MIN: value = value < other ? value : other; break;
            case WEFT_MAX: value = value > other ? value : other; break;
            case WEFT_BAND: value = (ELEMENT)(value & other); break;
            case WEFT_BOR: value = (ELEMENT)(value | other); break;
            default: value = (ELEMENT)(value ^ other); break;
            }
        }
        d[i] = value;
    }
}
#undef ELEMENT
#undef LOOP
