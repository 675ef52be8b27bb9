/* columns.c: the truths of conditions over the columns of a batch, without a Python object for each part of a condition.
 *
 * model/columns.py adds the nodes of a condition (model/expr.py), each once, and then asks for many conditions over one batch at a time. What
 * is the same for all rows is settled first, as a number; what is left is computed for a block of rows after another, so that all parts of
 * the conditions stay in the processor's cache. model/evaluate.py is the reference: tests compare the two.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

/* Rows of a block. */
#define BLOCK 256

#if defined(__x86_64__) && defined(__GLIBC__)
#define FAST __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define FAST
#endif

/* The operations of model/expr.py, in the order of columns.py. MEMBER is one_of where all values are below 64: x has their bits. */
enum op { CONSTANT, OPERAND, AND, OR, SHR, SHL, ADD, SLICE, TRUTH, BIT, EQ, LE, NOT, ALL, ANY, ONE_OF, MEMBER };

/* A column is at least a number: LE with its number first. */
#define GE (MEMBER + 1)

/* What the truth of a condition is: the same for all rows, or a column, which may hold in no row. */
enum answer { ALWAYS_FALSE, ALWAYS_TRUE, SOMEWHERE, NOWHERE };

/* `a`, `b`: nodes (of an operand: its number); `list`, `length`: nodes (ALL, ANY) or values (ONE_OF) in the pool; `x`: constant, mask or bit. */
struct node {
	u32 op, a, b, list, length, shift;
	u64 x;
};

/* What is known of a node in the present call: `call` says whether anything is. */
struct known {
	u32 call;
	u8 column, placed;
	u64 number;		/* its value where it is no column */
	const void *at;		/* its block: u64 of a value, u8 of a truth */
};

/* How an operand is given: a number, a column, or not at all. */
enum given { NUMBER, VALUES, MISSING };

static struct node *nodes;
static struct known *known;
static u64 *pool;
static u32 node_count, node_room, pool_count, pool_room, call;

static u32 *order;		/* nodes that are columns, each after its parts */
static u32 order_count;
static u8 *blocks;
static size_t blocks_room;

/* the present call's operands */
static const u8 *given;
static const u64 *numbers;	/* or the address of the column */
static u8 *missing;
static u32 missing_count;

static int grow(void **array, u32 *room, u32 wanted, size_t size)
{
	u32 more = *room ? *room : 1024;
	void *larger;

	if (wanted <= *room)
		return 1;
	while (more < wanted)
		more *= 2;
	larger = realloc(*array, more * size);
	if (!larger)
		return 0;
	*array = larger;
	*room = more;
	return 1;
}

/* Add a node; returns its number, or -1 where memory is short. `list` has `length` entries: node numbers or values. */
int vmfuzz_add_node(u32 op, u32 a, u32 b, u64 x, u32 shift, const u64 *list, u32 length)
{
	u32 room = node_room;

	if (!grow((void **)&pool, &pool_room, pool_count + length, sizeof(u64)) || !grow((void **)&nodes, &room, node_count + 1, sizeof(*nodes)))
		return -1;
	if (room != node_room) {
		u32 before = node_room, other = node_room;

		if (!grow((void **)&known, &other, room, sizeof(*known)))
			return -1;
		other = node_room;
		if (!grow((void **)&order, &other, room, sizeof(*order)))
			return -1;
		memset(known + before, 0, (room - before) * sizeof(*known));
		node_room = room;
	}
	nodes[node_count] = (struct node){ op, a, b, pool_count, length, shift, x };
	if (length)
		memcpy(pool + pool_count, list, length * sizeof(u64));
	pool_count += length;
	return (int)node_count++;
}

static inline int is_value(const struct node *n)
{
	return n->op <= SLICE;
}

static inline int has_two(const struct node *n)
{
	return n->op == AND || n->op == OR || n->op == ADD || n->op == EQ || n->op == LE;
}

static inline int among(const struct node *n, u64 value)
{
	u32 i;

	for (i = 0; i < n->length; i++)
		if (pool[n->list + i] == value)
			return 1;
	return 0;
}

/* The value or truth of a node whose parts are numbers. */
static u64 compute(const struct node *n, u64 a, u64 b)
{
	switch (n->op) {
	case AND: return a & b;
	case OR: return a | b;
	case SHR: return a >> n->shift;
	case SHL: return a << n->shift;
	case ADD: return a + b;
	case SLICE: return a >> n->shift & n->x;
	case BIT: return a >> n->shift & 1;
	case EQ: return a == b;
	case LE: return a <= b;
	case NOT: return !a;
	case MEMBER: return a < 64 && n->x >> a & 1;
	default: return (u64)among(n, a);
	}
}

/* Find out whether a node is a column, and its number where it is not. A part of ALL or ANY that settles it leaves the rest unasked. */
static void settle(u32 which)
{
	const struct node *n = &nodes[which];
	struct known *k = &known[which];
	u32 i, part;

	if (k->call == call)
		return;
	k->call = call;
	k->column = k->placed = 0;
	switch (n->op) {
	case CONSTANT:
	case TRUTH:
		k->number = n->x;
		return;
	case OPERAND:
		k->column = given[n->a] != NUMBER;
		k->number = numbers[n->a];
		if (given[n->a] == MISSING && !missing[n->a]) {
			missing[n->a] = 1;
			missing_count++;
		}
		return;
	case ALL:
	case ANY:
		k->number = n->op == ALL;
		for (i = 0; i < n->length; i++) {
			part = (u32)pool[n->list + i];
			settle(part);
			if (known[part].column) {
				k->column = 1;
			} else if (known[part].number != (n->op == ALL)) {
				k->column = 0;
				k->number = n->op != ALL;
				return;
			}
		}
		return;
	default:
		settle(n->a);
		k->column = known[n->a].column;
		if (has_two(n)) {
			settle(n->b);
			k->column |= known[n->b].column;
		}
		if (!k->column)
			k->number = compute(n, known[n->a].number, known[n->b].number);
	}
}

/* Put a column into the order of computation, after the columns that it is made of. */
static void place(u32 which)
{
	const struct node *n = &nodes[which];
	struct known *k = &known[which];
	u32 i;

	if (!k->column || k->placed)
		return;
	k->placed = 1;
	if (n->op == OPERAND)
		return;
	if (n->op == ALL || n->op == ANY) {
		for (i = 0; i < n->length; i++)
			place((u32)pool[n->list + i]);
	} else {
		place(n->a);
		if (has_two(n))
			place(n->b);
	}
	order[order_count++] = which;
}

/* A block for each column in the order, but for the operands, which lie where they are. */
static int lay_out(void)
{
	size_t need = 0, at = 0;
	u32 i;

	for (i = 0; i < order_count; i++)
		need += BLOCK * (is_value(&nodes[order[i]]) ? sizeof(u64) : 1);
	if (need > blocks_room) {
		free(blocks);
		blocks = malloc(need);
		blocks_room = blocks ? need : 0;
		if (!blocks)
			return 0;
	}
	for (i = 0; i < order_count; i++) {
		known[order[i]].at = blocks + at;
		at += BLOCK * (is_value(&nodes[order[i]]) ? sizeof(u64) : 1);
	}
	return 1;
}

/* The block of rows from `first` on of a value that is a column. */
static inline const u64 *values_of(u32 which, size_t first)
{
	if (nodes[which].op == OPERAND)
		return (const u64 *)(uintptr_t)numbers[nodes[which].a] + first;
	return known[which].at;
}

FAST static void block_of_two(u32 op, const u64 *restrict a, const u64 *restrict b, u64 other, u64 *restrict out, u8 *restrict truth, u32 n)
{
	u32 i;

	if (b) {
		switch (op) {
		case AND: for (i = 0; i < n; i++) out[i] = a[i] & b[i]; return;
		case OR: for (i = 0; i < n; i++) out[i] = a[i] | b[i]; return;
		case ADD: for (i = 0; i < n; i++) out[i] = a[i] + b[i]; return;
		case EQ: for (i = 0; i < n; i++) truth[i] = a[i] == b[i]; return;
		default: for (i = 0; i < n; i++) truth[i] = a[i] <= b[i]; return;
		}
	}
	switch (op) {
	case AND: for (i = 0; i < n; i++) out[i] = a[i] & other; return;
	case OR: for (i = 0; i < n; i++) out[i] = a[i] | other; return;
	case ADD: for (i = 0; i < n; i++) out[i] = a[i] + other; return;
	case EQ: for (i = 0; i < n; i++) truth[i] = a[i] == other; return;
	case GE: for (i = 0; i < n; i++) truth[i] = a[i] >= other; return;
	default: for (i = 0; i < n; i++) truth[i] = a[i] <= other; return;
	}
}

FAST static void block_of_one(const struct node *n, const u64 *restrict a, u64 *restrict out, u8 *restrict truth, u32 rows)
{
	u32 i, j, shift = n->shift;
	u64 x = n->x;

	switch (n->op) {
	case SHR: for (i = 0; i < rows; i++) out[i] = a[i] >> shift; return;
	case SHL: for (i = 0; i < rows; i++) out[i] = a[i] << shift; return;
	case SLICE: for (i = 0; i < rows; i++) out[i] = a[i] >> shift & x; return;
	case BIT: for (i = 0; i < rows; i++) truth[i] = a[i] >> shift & 1; return;
	case MEMBER: for (i = 0; i < rows; i++) truth[i] = (a[i] < 64) & (x >> (a[i] & 63)); return;
	default:
		memset(truth, 0, rows);
		for (j = 0; j < n->length; j++) {
			u64 value = pool[n->list + j];

			for (i = 0; i < rows; i++)
				truth[i] |= a[i] == value;
		}
	}
}

/* ALL or ANY: parts that are no columns do not change the truth. */
FAST static void block_of_many(const struct node *n, u8 *restrict truth, u32 rows)
{
	u32 i, j;
	int first = 1;

	for (j = 0; j < n->length; j++) {
		const struct known *part = &known[(u32)pool[n->list + j]];
		const u8 *restrict more = part->at;

		if (!part->column)
			continue;
		if (first)
			memcpy(truth, more, rows);
		else if (n->op == ALL)
			for (i = 0; i < rows; i++) truth[i] &= more[i];
		else
			for (i = 0; i < rows; i++) truth[i] |= more[i];
		first = 0;
	}
}

FAST static void negated(const u8 *restrict of, u8 *restrict truth, u32 rows)
{
	u32 i;

	for (i = 0; i < rows; i++)
		truth[i] = of[i] ^ 1;
}

/* A block of a node with two parts, one of which is a column. */
static void block_of_pair(const struct node *n, size_t first, void *out, u32 rows)
{
	const struct known *left = &known[n->a], *right = &known[n->b];
	u64 *values = is_value(n) ? out : NULL;
	u8 *truth = is_value(n) ? NULL : out;

	if (left->column)
		block_of_two(n->op, values_of(n->a, first), right->column ? values_of(n->b, first) : NULL, right->number, values, truth, rows);
	else	/* the operations but LE do not mind which part comes first */
		block_of_two(n->op == LE ? GE : n->op, values_of(n->b, first), NULL, left->number, values, truth, rows);
}

static void compute_block(size_t first, u32 rows)
{
	u32 i;

	for (i = 0; i < order_count; i++) {
		const struct node *n = &nodes[order[i]];
		void *out = (void *)known[order[i]].at;

		if (n->op == ALL || n->op == ANY)
			block_of_many(n, out, rows);
		else if (n->op == NOT)
			negated(known[n->a].at, out, rows);
		else if (has_two(n))
			block_of_pair(n, first, out, rows);
		else
			block_of_one(n, values_of(n->a, first), is_value(n) ? out : NULL, is_value(n) ? NULL : out, rows);
	}
}

/* Bits of what a difference shows: the condition holds where the other does not; it does not hold where the other does. */
enum shows { MORE = 1, LESS = 2 };

FAST static u32 differs(const u8 *truth, u8 same, const u8 *other, u8 other_same, const u8 *where, u32 rows)
{
	u8 more = 0, less = 0;
	u32 i;

	for (i = 0; i < rows; i++) {
		u8 one = truth ? truth[i] : same, two = other ? other[i] : other_same;

		more |= where[i] & one & (two ^ 1);
		less |= where[i] & two & (one ^ 1);
	}
	return (more ? MORE : 0) | (less ? LESS : 0);
}

/* What the roots need, settled and in order. Returns the number of operands that are missing, which `lacking` names; -1 where memory is short. */
static int prepare(const u8 *how, const u64 *what, const u32 *roots, u32 count, u8 *lacking)
{
	u32 i;

	if (!++call) {		/* wrapped round */
		memset(known, 0, node_room * sizeof(*known));
		call = 1;
	}
	given = how;
	numbers = what;
	missing = lacking;
	missing_count = order_count = 0;
	for (i = 0; i < count; i++)
		settle(roots[i]);
	if (missing_count)
		return (int)missing_count;
	for (i = 0; i < count; i++)
		place(roots[i]);
	return lay_out() ? 0 : -1;
}

FAST static u8 any_of(const u8 *truth, u32 rows)
{
	u8 any = 0;
	u32 i;

	for (i = 0; i < rows; i++)
		any |= truth[i];
	return any;
}

/*
 * The truths of `count` conditions over `rows` rows. `how`, `what`: the operands. `answers`: enum answer of each; `out`: a column of `rows` truths
 * for each, filled where the answer is SOMEWHERE or NOWHERE. Returns as prepare().
 */
int vmfuzz_truths(const u8 *how, const u64 *what, size_t rows, const u32 *roots, u32 count, u8 *lacking, u8 *answers, u8 *out)
{
	int status = prepare(how, what, roots, count, lacking);
	size_t first;
	u32 i, n;

	if (status)
		return status;
	for (i = 0; i < count; i++)
		answers[i] = known[roots[i]].column ? NOWHERE : (u8)known[roots[i]].number;
	if (!order_count)
		return 0;
	for (first = 0; first < rows; first += BLOCK) {
		n = rows - first < BLOCK ? (u32)(rows - first) : BLOCK;
		compute_block(first, n);
		for (i = 0; i < count; i++) {
			if (!known[roots[i]].column)
				continue;
			memcpy(out + i * rows + first, known[roots[i]].at, n);
			if (answers[i] == NOWHERE && any_of(known[roots[i]].at, n))
				answers[i] = SOMEWHERE;
		}
	}
	return 0;
}

/*
 * Whether conditions differ from others in some of the rows `where` (of each condition, u8 [rows]): enum shows in `answers`. `others`: u8 [rows],
 * or NULL where the other is `same` in all rows. Returns as prepare().
 */
int vmfuzz_differences(const u8 *how, const u64 *what, size_t rows, const u32 *roots, u32 count, u8 *lacking, const u64 *others, const u8 *same,
		       const u64 *where, u8 *answers)
{
	int status = prepare(how, what, roots, count, lacking);
	size_t first;
	u32 i, n;

	if (status)
		return status;
	memset(answers, 0, count);
	for (first = 0; first < rows; first += BLOCK) {
		n = rows - first < BLOCK ? (u32)(rows - first) : BLOCK;
		compute_block(first, n);
		for (i = 0; i < count; i++) {
			const struct known *k = &known[roots[i]];
			const u8 *other = (const u8 *)(uintptr_t)others[i];

			answers[i] |= differs(k->column ? k->at : NULL, (u8)k->number, other ? other + first : NULL, same[i],
					      (const u8 *)(uintptr_t)where[i] + first, n);
		}
	}
	return 0;
}
