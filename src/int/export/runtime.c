//- base
typedef uint8_t byte;

/* x / 2^n, rounded half up. x >> n of a negative x is the compiler's own business in C, so its complement is shifted. */
static int32_t round_shift(int32_t x, unsigned n)
{
    if (n == 0) return x;
    x += (int32_t)(UINT32_C(1) << (n - 1));
    return x >= 0 ? x >> n : ~(~x >> n);
}

/* The int32 of these bits. */
static int32_t to_signed(uint32_t bits)
{
    return bits <= INT32_MAX ? (int32_t)bits : -(int32_t)~bits - 1;
}

/* An 8-bit activation as the bits of an int32: sign is 0x80 where it is int8, 0 where it is uint8. */
static uint32_t load(byte value, uint32_t sign)
{
    return ((uint32_t)value ^ sign) - sign;
}

static byte clamp(int32_t x, uint32_t sign)
{
    const int32_t low = sign ? -128 : 0, high = sign ? 127 : 255;
    return (byte)((uint32_t)(x < low ? low : x > high ? high : x) & 0xff);
}
//- digits
/* The canonical signed digits of a constant: sum of + or - 2^shift[i]. Returns how many. */
static int digits_of(int32_t value, unsigned shift[], uint32_t negative[])
{
    const uint32_t sign = value < 0 ? UINT32_MAX : 0;
    int32_t rest = value < 0 ? -value : value;
    int count = 0;
    for (unsigned at = 0; rest != 0; at++, rest >>= 1) {
        if (rest & 1) {
            const int32_t digit = 2 - (rest & 3);
            shift[count] = at;
            negative[count++] = digit < 0 ? ~sign : sign;
            rest -= digit;
        }
    }
    return count;
}

/* x times a constant, by shifts and additions. */
static uint32_t times(uint32_t x, int32_t value)
{
    unsigned shift[16];
    uint32_t negative[16], sum = 0;
    const int count = digits_of(value, shift, negative);
    for (int i = 0; i < count; i++) sum += ((x << shift[i]) ^ negative[i]) - negative[i];
    return sum;
}
//- conv
typedef struct {
    int cin, h, w, cout, oh, ow, kernel, stride, pad;
    unsigned preshift;
    uint32_t x_sign, y_sign;
    const int16_t *multiplier;
    const int32_t *bias;
    const byte *shift;
} conv_layer;

/* Adds + or - x << shift to every sum whose window holds x at row ky, column kx; zeros around need no addition. */
static void add_plane(const conv_layer *c, const byte *x, int ky, int kx, unsigned shift, uint32_t negative)
{
    for (int oy = 0; oy < c->oh; oy++) {
        const int y = oy * c->stride + ky - c->pad;
        if (y < 0 || y >= c->h) continue;
        int first = 0, end = c->ow;
        while (first < end && first * c->stride + kx < c->pad) first++;
        while (end > first && (end - 1) * c->stride + kx - c->pad >= c->w) end--;
        if (first == end) continue;
        const byte *from = x + y * c->w + first * c->stride + kx - c->pad;
        uint32_t *to = sums + oy * c->ow + first;
        for (int i = 0; i < end - first; i++)
            to[i] += ((load(from[i * c->stride], c->x_sign) << shift) ^ negative) - negative;
    }
}

/* y = clamp((sum' * multiplier + bias) / 2^shift), sum' after its pre-shift. */
static void requantize(const conv_layer *c, int co, byte *y)
{
    unsigned shift[16];
    uint32_t negative[16];
    const int count = digits_of(c->multiplier[co], shift, negative);
    for (int i = 0; i < c->oh * c->ow; i++) {
        const uint32_t sum = (uint32_t)round_shift(to_signed(sums[i]), c->preshift);
        uint32_t product = (uint32_t)c->bias[co];
        for (int d = 0; d < count; d++) product += ((sum << shift[d]) ^ negative[d]) - negative[d];
        y[i] = clamp(round_shift(to_signed(product), c->shift[co]), c->y_sign);
    }
}
//- conv_int8
static void conv_int8(const conv_layer *c, const int8_t *weight, const byte *x, byte *y)
{
    for (int co = 0; co < c->cout; co++) {
        memset(sums, 0, sizeof sums[0] * (size_t)(c->oh * c->ow));
        for (int ky = 0; ky < c->kernel; ky++)
            for (int kx = 0; kx < c->kernel; kx++)
                for (int ci = 0; ci < c->cin; ci++) {
                    unsigned shift[16];
                    uint32_t negative[16];
                    const int count = digits_of(*weight++, shift, negative);
                    for (int i = 0; i < count; i++)
                        add_plane(c, x + ci * c->h * c->w, ky, kx, shift[i], negative[i]);
                }
        requantize(c, co, y + co * c->oh * c->ow);
    }
}
//- conv_shift
/* Weights as bit planes: 32 to a group, the sign first, then the index into the table of shifts; 255 there is zero. */
static void conv_shift(const conv_layer *c, const uint32_t *planes, int bits, const byte *table, const byte *x, byte *y)
{
    uint32_t n = 0;
    for (int co = 0; co < c->cout; co++) {
        memset(sums, 0, sizeof sums[0] * (size_t)(c->oh * c->ow));
        for (int ky = 0; ky < c->kernel; ky++)
            for (int kx = 0; kx < c->kernel; kx++)
                for (int ci = 0; ci < c->cin; ci++, n++) {
                    const uint32_t *group = planes + n / 32 * (uint32_t)bits;
                    unsigned index = 0;
                    for (int j = 1; j < bits; j++) index |= (group[j] >> n % 32 & 1) << (j - 1);
                    if (table[index] == 255) continue;
                    const uint32_t negative = (group[0] >> n % 32 & 1) ? UINT32_MAX : 0;
                    add_plane(c, x + ci * c->h * c->w, ky, kx, table[index], negative);
                }
        requantize(c, co, y + co * c->oh * c->ow);
    }
}
//- input
static void look_up(const int8_t *table, int channels, int pixels, const byte *image, byte *y)
{
    for (int i = 0; i < channels * pixels; i++) y[i] = (byte)((uint32_t)table[i / pixels * 256 + image[i]] & 0xff);
}
//- add
typedef struct {
    int count;
    unsigned a_shift, b_shift, shift;
    uint32_t a_sign, b_sign, y_sign;
} add_layer;

static void add(const add_layer *l, const byte *a, const byte *b, byte *y)
{
    for (int i = 0; i < l->count; i++) {
        const uint32_t sum = (load(a[i], l->a_sign) << l->a_shift) + (load(b[i], l->b_sign) << l->b_shift);
        y[i] = clamp(round_shift(to_signed(sum), l->shift), l->y_sign);
    }
}
//- pad_shortcut
static void pad_shortcut(int cin, int h, int w, int cout, int oh, int ow, int stride, const byte *x, byte *y)
{
    const int front = (cout - cin) / 2;
    memset(y, 0, (size_t)(cout * oh * ow));
    for (int c = 0; c < cin; c++)
        for (int i = 0; i < oh; i++)
            for (int j = 0; j < ow; j++)
                y[((c + front) * oh + i) * ow + j] = x[(c * h + i * stride) * w + j * stride];
}
//- max_pool
static void max_pool(int channels, int h, int w, int oh, int ow, int kernel, int stride, int pad, const byte *x, byte *y)
{
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < oh * ow; i++) {
            byte best = 0;
            for (int k = 0; k < kernel * kernel; k++) {
                const int row = i / ow * stride + k / kernel - pad, column = i % ow * stride + k % kernel - pad;
                if (row < 0 || row >= h || column < 0 || column >= w) continue;
                const byte value = x[(c * h + row) * w + column];
                if (value > best) best = value;
            }
            y[c * oh * ow + i] = best;
        }
}
//- global_sum
static void global_sum(int channels, int pixels, uint32_t x_sign, unsigned preshift, const byte *x, int32_t *y)
{
    for (int c = 0; c < channels; c++) {
        uint32_t sum = 0;
        for (int i = 0; i < pixels; i++) sum += load(x[c * pixels + i], x_sign);
        y[c] = round_shift(to_signed(sum), preshift);
    }
}
//- linear
static void linear(int features, int classes, const int8_t *weight, const int32_t *bias, const int32_t *x, int32_t *y)
{
    for (int c = 0; c < classes; c++) {
        uint32_t sum = (uint32_t)bias[c];
        for (int i = 0; i < features; i++) sum += times((uint32_t)x[i], *weight++);
        y[c] = to_signed(sum);
    }
}
