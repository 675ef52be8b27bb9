/*
 * A processor for vmfuzz in C (docs/program.md says what the lines mean):
 *
 *     cc -O2 -o answerer examples/answerer.c && vmfuzz run --executor "program:./answerer"
 * Put your own emulator's VM entry in the place of vm_entry, which is a toy that knows eight checks.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char base[1 << 20], row[1 << 20];
static struct { const char *name; uint64_t value; } memo[256];
static int known;

/* The value of a name in a line: "name":"0x1f", with or without blanks. The names of fields, and of words of memory, are unique in a line. */
static int find(const char *line, const char *name, uint64_t *value)
{
	char quoted[64], *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", name);
	if ((at = strstr(line, quoted)))
		*value = strtoull(at + strlen(quoted) + strspn(at + strlen(quoted), " \""), NULL, 0);
	return at != NULL;
}

/* What the row has where it differs from the base, else what the base has, else 0. `name` is a literal: the base is searched once a batch. */
static uint64_t get(const char *name)
{
	uint64_t value = 0;
	int i = 0;

	if (find(row, name, &value))
		return value;
	while (i < known && memo[i].name != name)
		i++;
	if (i == known) {
		find(base, name, &value);
		memo[i].name = name;
		memo[known++].value = value;
	}
	return memo[i].value;
}

static uint64_t word_at(uint64_t address)
{
	uint64_t word = 0;
	char name[32];

	snprintf(name, sizeof(name), "0x%llx", (unsigned long long)address);
	if (!find(row, name, &word))
		find(base, name, &word);
	return word;
}

/* What VMLAUNCH does with this VMCS, as the rest of an answer. */
static const char *vm_entry(void)
{
	uint64_t link = get("vmcs_link_pointer");

	if (get("live_no_current_vmcs"))
		return "\"outcome\":\"vmfail_invalid\"";
	if (get("live_blocking_by_mov_ss"))
		return "\"outcome\":\"vmfail_valid\",\"error\":26";
	if (get("live_launch_instruction") != get("live_launch_state"))
		return get("live_launch_instruction") ? "\"outcome\":\"vmfail_valid\",\"error\":5" : "\"outcome\":\"vmfail_valid\",\"error\":4";
	if (get("cr3_target_count") > 4)
		return "\"outcome\":\"vmfail_valid\",\"error\":7,\"message\":\"too many CR3-target values\"";
	if ((get("host_cr0") & 0x80000021) != 0x80000021 || !(get("host_cr4") & 0x2000))
		return "\"outcome\":\"vmfail_valid\",\"error\":8,\"message\":\"host CR0 or CR4\"";
	if (!(get("guest_rflags") & 2))
		return "\"outcome\":\"entry_failure\",\"exit_reason\":33,\"qualification\":0,\"message\":\"guest RFLAGS\"";
	if (!(get("guest_gs_access_rights") & 0x10080)) /* usable, and not present */
		return "\"outcome\":\"entry_failure\",\"exit_reason\":33,\"qualification\":0,\"message\":\"guest GS\"";
	if (link != UINT64_MAX && (link & 0xFFF || !(uint32_t)word_at(link)))
		return "\"outcome\":\"entry_failure\",\"exit_reason\":33,\"qualification\":4";
	return "\"outcome\":\"entered\""; /* with "exit_reason":52 it says more, where you know with which exit the guest ends */
}

int main(void)
{
	uint64_t left = 0, number;

	puts("{\"hello\":\"vmfuzz-program-1\",\"name\":\"toy in C\",\"version\":\"1\",\"profile\":\"corei7_skylake_x\"}");
	fflush(stdout);
	while (fgets(row, sizeof(row), stdin) && strncmp(row, "{\"end\"", 6)) {
		if (!strncmp(row, "{\"batch\"", 8)) {
			strcpy(base, row);
			known = 0;
			find(base, "rows", &left);
		} else if (find(row, "row", &number)) {
			printf("{\"row\":%llu,%s}\n", (unsigned long long)number, vm_entry());
			if (--left == 0)
				fflush(stdout); /* at the latest with the last row of a batch */
		}
	}
	return 0;
}
