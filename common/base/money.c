/* SPDX-License-Identifier: Apache-2.0 */
/* Money as integers of nano-US-dollars: exact text in, exact text out, costs rounded up once. */
#include "common/base/money.h"

#include <inttypes.h>
#include <stdio.h>

enum { PLACES = 9, EXPONENT_MAX = 100000 };
#define TOKENS_PER_MTOK 1000000u

__extension__ typedef unsigned __int128 uint128;

void money_format(int64_t nano, char out[MONEY_TEXT_SIZE])
{
    uint64_t size = nano < 0 ? -(uint64_t)nano : (uint64_t)nano;

    snprintf(out, MONEY_TEXT_SIZE, "%s%" PRIu64 ".%09" PRIu64, nano < 0 ? "-" : "",
             size / (uint64_t)NANO_PER_USD, size % (uint64_t)NANO_PER_USD);
}

/* The digits of a number without its point: value = digits * 10^exponent. */
struct decimal {
    int64_t digits; /* trailing zeros are counted in the exponent instead */
    int64_t exponent;
    int64_t zeros; /* read but not yet part of digits */
    bool is_too_long;
};

static bool is_digit(const char *at, const char *end)
{
    return at < end && *at >= '0' && *at <= '9';
}

/* Zeros wait until a digit follows them, so "1.50000000000000000000" keeps two digits. */
static void decimal_add(struct decimal *number, int digit)
{
    if (digit == 0) {
        number->zeros++;
        return;
    }
    for (; number->zeros > 0 && number->digits != 0 && !number->is_too_long; number->zeros--)
        number->is_too_long = __builtin_mul_overflow(number->digits, 10, &number->digits);
    number->zeros = 0;
    if (__builtin_mul_overflow(number->digits, 10, &number->digits) ||
        __builtin_add_overflow(number->digits, digit, &number->digits))
        number->is_too_long = true;
}

static const char *take_digits(const char *at, const char *end, struct decimal *number)
{
    for (; is_digit(at, end); at++)
        decimal_add(number, *at - '0');
    return at;
}

/* "12.5": digits, and digits after a point if there is one.  NULL when it is not like that. */
static const char *take_plain(const char *at, const char *end, struct decimal *number)
{
    const char *point;

    if (!is_digit(at, end))
        return NULL;
    at = take_digits(at, end, number);
    if (at == end || *at != '.')
        return at;
    point = ++at;
    if (!is_digit(at, end))
        return NULL;
    at = take_digits(at, end, number);
    number->exponent = -(at - point);
    return at;
}

/* "e-7".  Past EXPONENT_MAX the number is out of range or zero, whatever its digits are. */
static const char *take_exponent(const char *at, const char *end, struct decimal *number)
{
    bool is_negative = false;
    int64_t exponent = 0;

    if (at == end || (*at != 'e' && *at != 'E'))
        return at;
    at++;
    if (at < end && (*at == '+' || *at == '-'))
        is_negative = *at++ == '-';
    if (!is_digit(at, end))
        return NULL;
    for (; is_digit(at, end); at++)
        exponent = exponent < EXPONENT_MAX ? exponent * 10 + (*at - '0') : exponent;
    number->exponent += is_negative ? -exponent : exponent;
    return at;
}

static bool decimal_to_nano(const struct decimal *number, int64_t *nano)
{
    int64_t value = number->digits;
    int64_t exponent = number->exponent + number->zeros + PLACES;

    if (number->is_too_long)
        return false;
    if (value == 0) {
        *nano = 0;
        return true;
    }
    if (exponent < 0) /* digits end in no zero: something would be lost */
        return false;
    for (; exponent > 0; exponent--) {
        if (value > MONEY_MAX_NANO / 10)
            return false;
        value *= 10;
    }
    if (value > MONEY_MAX_NANO)
        return false;
    *nano = value;
    return true;
}

bool money_parse(const char *text, size_t len, int64_t *nano)
{
    struct decimal number = {.digits = 0};
    const char *end = text + len;

    return take_plain(text, end, &number) == end && number.exponent >= -PLACES &&
           decimal_to_nano(&number, nano);
}

bool money_parse_number(const char *text, size_t len, int64_t *nano)
{
    struct decimal number = {.digits = 0};
    const char *end = text + len;
    const char *at;

    if (len > 1 && text[0] == '0' && is_digit(text + 1, end))
        return false; /* JSON has no leading zeros */
    at = take_plain(text, end, &number);
    if (at)
        at = take_exponent(at, end, &number);
    return at == end && decimal_to_nano(&number, nano);
}

static uint128 times(int64_t tokens, int64_t nano_per_mtok)
{
    return (uint128)(tokens > 0 ? tokens : 0) * (uint128)(nano_per_mtok > 0 ? nano_per_mtok : 0);
}

int64_t money_cost(const struct price *price, int64_t input, int64_t cached, int64_t output)
{
    uint128 sum, nano;

    input = input > 0 ? input : 0;
    cached = cached > 0 ? cached : 0;
    cached = cached < input ? cached : input;
    sum = times(input - cached, price->input_nano_per_mtok) +
          times(cached, price->cached_input_nano_per_mtok) +
          times(output, price->output_nano_per_mtok);
    nano = sum / TOKENS_PER_MTOK + (sum % TOKENS_PER_MTOK != 0);
    return nano > (uint128)INT64_MAX ? INT64_MAX : (int64_t)nano;
}
