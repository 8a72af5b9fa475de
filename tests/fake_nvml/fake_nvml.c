/* A libnvidia-ml.so.1 whose GPUs are described by a text file, for the genuine pynvml to load.
 *
 * The file named by FAKE_NVML_SCENARIO is read again whenever it changes, so that a test can alter the host under a
 * running reader. Struct layouts and function names are those of nvml.h as pynvml 13 declares them. One line each:
 *
 *   count N                          GPUs on the host (default 1)
 *   init CODE                        what nvmlInit answers (default 0)
 *   epoch N                          a new number = the driver was reloaded: old sessions answer UNINITIALIZED
 *   wedge FUNCTION|all               that call does not return until the line has gone (event waits excepted)
 *   call_us N                        every call takes this long
 *   pcie_us N                        a PCIe throughput sample takes this long (20000 on real GPUs)
 *   driver TEXT / cuda N
 *   gpu N|all KEY VALUE              overrides one answer; VALUE may be "unsupported" or "error:CODE"
 *   gpu N|all everything VALUE       the same for every answer without an override of its own
 *   process GPU compute|graphics PID BYTES|unknown [GPU_INSTANCE]
 *   mig GPU INDEX GPU_INSTANCE COMPUTE_INSTANCE TOTAL USED
 *   xid GPU XID SEQUENCE             delivered once, in the order of the sequence numbers
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long long u64;

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMED_OUT = 10 };
enum { MAX_CARDS = 64, MAX_MIG = 8, MAX_LINES = 2048, ALL = -1 };
static const u64 MIB = 1024 * 1024;

struct answer { int gpu; char key[48]; char text[100]; };
struct process { int gpu, graphics; u32 pid; u64 bytes; u32 instance; };
struct partition { int gpu, index; u32 gpu_instance, compute_instance; u64 total, used; };
struct xid { int gpu; u64 number; int sequence; };
struct scenario {
    int count, init, epoch, call_us, pcie_us, cuda, answers, processes, partitions, xids;
    char wedge[64], driver[80];
    struct answer answer[MAX_LINES];
    struct process process[MAX_LINES];
    struct partition partition[MAX_CARDS * MAX_MIG];
    struct xid xid[256];
};
struct GPU { int gpu, partition; };  /* partition -1: the whole GPU */

static struct GPU GPUs[MAX_CARDS], partitions[MAX_CARDS][MAX_MIG];
static struct scenario *now;
static struct stat known;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int references, session_epoch, delivered, watched[MAX_CARDS];
static struct { const char *name; long times; } calls[128];

static void nap(long us) {
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    if (us > 0) nanosleep(&t, NULL);
}

static void parse_line(struct scenario *s, const char *line) {
    char who[16], what[16];
    struct answer *a = &s->answer[s->answers];
    struct process *p = &s->process[s->processes];
    struct partition *m = &s->partition[s->partitions];
    struct xid *x = &s->xid[s->xids];
    char bytes[32];
    p->instance = 0xFFFFFFFFu;
    if (sscanf(line, "count %d", &s->count) == 1 || sscanf(line, "init %d", &s->init) == 1 ||
        sscanf(line, "epoch %d", &s->epoch) == 1 || sscanf(line, "wedge %63s", s->wedge) == 1 ||
        sscanf(line, "call_us %d", &s->call_us) == 1 || sscanf(line, "pcie_us %d", &s->pcie_us) == 1 ||
        sscanf(line, "driver %79s", s->driver) == 1 || sscanf(line, "cuda %d", &s->cuda) == 1)
        return;
    if (s->answers < MAX_LINES && sscanf(line, "gpu %15s %47s %99[^\n]", who, a->key, a->text) == 3) {
        a->gpu = strcmp(who, "all") ? atoi(who) : ALL;
        s->answers++;
    } else if (s->processes < MAX_LINES &&
               sscanf(line, "process %d %15s %u %31s %u", &p->gpu, what, &p->pid, bytes, &p->instance) >= 4) {
        p->graphics = !strcmp(what, "graphics");
        p->bytes = strcmp(bytes, "unknown") ? strtoull(bytes, NULL, 10) : ~0ull;
        s->processes++;
    } else if (s->partitions < MAX_CARDS * MAX_MIG &&
               sscanf(line, "mig %d %d %u %u %llu %llu", &m->gpu, &m->index, &m->gpu_instance,
                      &m->compute_instance, &m->total, &m->used) == 6) {
        s->partitions++;
    } else if (s->xids < 256 && sscanf(line, "xid %d %llu %d", &x->gpu, &x->number, &x->sequence) == 3) {
        s->xids++;
    }
}

/* Old scenarios are never freed: a call in another thread may still read one. */
static struct scenario *scenario(void) {
    const char *path = getenv("FAKE_NVML_SCENARIO");
    struct stat st;
    pthread_mutex_lock(&lock);
    int there = path && stat(path, &st) == 0;
    if (!now || (there && (st.st_ino != known.st_ino || st.st_size != known.st_size ||
                           st.st_mtim.tv_sec != known.st_mtim.tv_sec || st.st_mtim.tv_nsec != known.st_mtim.tv_nsec))) {
        struct scenario *next = calloc(1, sizeof *next);
        FILE *file = there ? fopen(path, "r") : NULL;
        char line[256];
        next->count = 1;
        next->cuda = 13000;
        next->pcie_us = 0;
        strcpy(next->driver, "580.65.06");
        while (file && fgets(line, sizeof line, file)) parse_line(next, line);
        if (file) fclose(file);
        if (there) known = st;
        if (next->count > MAX_CARDS) next->count = MAX_CARDS;
        now = next;
    }
    struct scenario *current = now;
    pthread_mutex_unlock(&lock);
    return current;
}

static void count_call(const char *name) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 128; i++) {
        if (!calls[i].name) calls[i].name = name;
        if (!strcmp(calls[i].name, name)) {
            calls[i].times++;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

/* Every call begins here: counted, wedged, delayed, and refused outside a session. */
static int enter(const char *name) {
    count_call(name);
    struct scenario *s = scenario();
    while (!strcmp(s->wedge, "all") || !strcmp(s->wedge, name)) {
        nap(1000);
        s = scenario();
    }
    nap(s->call_us);
    return references > 0 && session_epoch == s->epoch ? OK : UNINITIALIZED;
}

static const struct answer *find(int gpu, const char *key) {
    struct scenario *s = scenario();
    const struct answer *found = NULL;
    for (int i = 0; i < s->answers; i++)
        if ((s->answer[i].gpu == gpu || s->answer[i].gpu == ALL) && !strcmp(s->answer[i].key, key))
            found = &s->answer[i];
    return found;
}

static int refusal(const struct answer *a) {
    if (!a) return OK;
    if (!strcmp(a->text, "unsupported")) return UNSUPPORTED;
    return strncmp(a->text, "error:", 6) ? OK : atoi(a->text + 6);
}

static int number(const char *name, const struct GPU *GPU, const char *key, u64 fallback, u64 *out) {
    int rc = enter(name);
    if (rc) return rc;
    if (!GPU) return INVALID;
    const struct answer *a = find(GPU->gpu, key);
    if (!a && (rc = refusal(find(GPU->gpu, "everything")))) return rc;
    if (a && (rc = refusal(a))) return rc;
    *out = a ? strtoull(a->text, NULL, 10) : fallback;
    return OK;
}

static int text(const char *name, const struct GPU *GPU, const char *key, const char *fallback, char *out, u32 size) {
    u64 ignored;
    int rc = number(name, GPU, key, 0, &ignored);
    if (rc) return rc;
    const struct answer *a = find(GPU->gpu, key);
    if (snprintf(out, size, "%s", a ? a->text : fallback) >= (int)size) return TOO_SMALL;
    return OK;
}

#define ANSWER_U32(FUNCTION, KEY, DEFAULT)                                  \
    int FUNCTION(struct GPU *GPU, u32 *out) {                             \
        u64 value;                                                          \
        int rc = number(__func__, GPU, KEY, DEFAULT, &value);              \
        if (!rc) *out = (u32)value;                                         \
        return rc;                                                          \
    }

static char *keyed(char *buffer, const char *stem, int a) {
    snprintf(buffer, 48, "%s_%d", stem, a);
    return buffer;
}

/* For the tests: how often a function was called, and everything as if freshly loaded. */
long fake_nvml_calls(const char *name) {
    for (int i = 0; i < 128 && calls[i].name; i++)
        if (!strcmp(calls[i].name, name)) return calls[i].times;
    return 0;
}

void fake_nvml_reset(void) {
    references = session_epoch = delivered = 0;
    memset(calls, 0, sizeof calls);
    memset(watched, 0, sizeof watched);
    memset(&known, 0, sizeof known);
    now = NULL;
}

int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    enter(__func__);
    struct scenario *s = scenario();
    if (s->init) return s->init;
    for (int i = 0; i < MAX_CARDS; i++) {
        GPUs[i] = (struct GPU){i, -1};
        for (int j = 0; j < MAX_MIG; j++) partitions[i][j] = (struct GPU){i, j};
    }
    session_epoch = s->epoch;
    references++;
    return OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    enter(__func__);
    if (references == 0) return UNINITIALIZED;
    references--;
    return OK;
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error of the fake NVML";
}

int nvmlSystemGetDriverVersion(char *out, u32 size) {
    int rc = enter(__func__);
    if (!rc) snprintf(out, size, "%s", scenario()->driver);
    return rc;
}
int nvmlSystemGetNVMLVersion(char *out, u32 size) {
    int rc = enter(__func__);
    if (!rc) snprintf(out, size, "13.%s", scenario()->driver);
    return rc;
}
int nvmlSystemGetCudaDriverVersion_v2(int *out) {
    int rc = enter(__func__);
    if (!rc) *out = scenario()->cuda;
    return rc;
}
int nvmlSystemGetCudaDriverVersion(int *out) { return nvmlSystemGetCudaDriverVersion_v2(out); }

int nvmlSystemGetProcessName(u32 pid, char *out, u32 size) {
    int rc = enter(__func__);
    if (!rc) snprintf(out, size, "process-%u", pid);
    return rc;
}

int nvmlDeviceGetCount_v2(u32 *out) {
    int rc = enter(__func__);
    if (!rc) *out = scenario()->count;
    return rc;
}

int nvmlDeviceGetHandleByIndex_v2(u32 index, struct GPU **out) {
    if (index >= (u32)scenario()->count) return INVALID;
    int rc = enter(__func__);
    if (rc || (rc = refusal(find(index, "handle")))) return rc;
    *out = &GPUs[index];
    return OK;
}

int nvmlDeviceGetIndex(struct GPU *GPU, u32 *out) {
    u64 value;
    int rc = number(__func__, GPU, "index", GPU->gpu, &value);
    if (!rc) *out = (u32)value;
    return rc;
}

int nvmlDeviceGetUUID(struct GPU *GPU, char *out, u32 size) {
    char uuid[64];
    if (GPU->partition < 0) snprintf(uuid, sizeof uuid, "GPU-00000000-0000-0000-0000-%012d", GPU->gpu);
    else snprintf(uuid, sizeof uuid, "MIG-00000000-0000-0000-%04d-%012d", GPU->partition, GPU->gpu);
    return text(__func__, GPU, GPU->partition < 0 ? "uuid" : "mig_uuid", uuid, out, size);
}
int nvmlDeviceGetName(struct GPU *GPU, char *out, u32 size) {
    return text(__func__, GPU, "name", GPU->partition < 0 ? "NVIDIA Fake H100" : "NVIDIA Fake H100 MIG 1g.10gb", out,
                size);
}
int nvmlDeviceGetSerial(struct GPU *GPU, char *out, u32 size) {
    return text(__func__, GPU, "serial", "1320000000001", out, size);
}

struct pci { char legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; };
int nvmlDeviceGetPciInfo_v3(struct GPU *GPU, struct pci *out) {
    char fallback[32];
    memset(out, 0, sizeof *out);
    snprintf(fallback, sizeof fallback, "00000000:%02X:00.0", 0x17 + GPU->gpu);
    int rc = text(__func__, GPU, "bus_id", fallback, out->bus_id, sizeof out->bus_id);
    out->bus = 0x17 + GPU->gpu;
    return rc;
}

struct memory { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };
static int memory(const char *name, struct GPU *GPU, struct memory_v2 *out) {
    struct scenario *s = scenario();
    u64 total, used, reserved;
    int rc;
    for (int i = 0; GPU->partition >= 0 && i < s->partitions; i++) {
        struct partition *m = &s->partition[i];
        if (m->gpu != GPU->gpu || m->index != GPU->partition) continue;
        if ((rc = number(name, GPU, "mig_memory", m->total, &total))) return rc;
        *out = (struct memory_v2){out->version, total, 16 * MIB, total - m->used - 16 * MIB, m->used};
        return OK;
    }
    if ((rc = number(name, GPU, "memory_total", 81920 * MIB, &total)) ||
        (rc = number(name, GPU, "memory_used", 1024 * MIB, &used)) ||
        (rc = number(name, GPU, "memory_reserved", 512 * MIB, &reserved)))
        return rc;
    *out = (struct memory_v2){out->version, total, reserved, total - used - reserved, used};
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(struct GPU *GPU, struct memory_v2 *out) {
    u64 ignored;
    int rc = number(__func__, GPU, "memory_v2", 0, &ignored);
    if (rc) return rc;
    if (out->version != (sizeof *out | 2 << 24)) return 25; /* ARGUMENT_VERSION_MISMATCH */
    return memory(__func__, GPU, out);
}
int nvmlDeviceGetMemoryInfo(struct GPU *GPU, struct memory *out) {
    struct memory_v2 v2 = {0};
    int rc = memory(__func__, GPU, &v2);
    if (!rc) *out = (struct memory){v2.total, v2.free, v2.used + v2.reserved};
    return rc;
}
int nvmlDeviceGetBAR1MemoryInfo(struct GPU *GPU, struct memory *out) {
    u64 total;
    int rc = number(__func__, GPU, "bar1_total", 131072 * MIB, &total);
    if (!rc) *out = (struct memory){total, total - MIB, MIB};
    return rc;
}

struct utilization { u32 gpu, memory; };
int nvmlDeviceGetUtilizationRates(struct GPU *GPU, struct utilization *out) {
    u64 gpu, busy;
    int rc = number(__func__, GPU, "utilization", 37, &gpu);
    if (rc || (rc = number(__func__, GPU, "memory_busy", 21, &busy))) return rc;
    *out = (struct utilization){(u32)gpu, (u32)busy};
    return OK;
}
static int sampled(const char *name, struct GPU *GPU, const char *key, u64 fallback, u32 *out, u32 *period_us) {
    u64 value;
    int rc = number(name, GPU, key, fallback, &value);
    if (rc) return rc;
    *out = (u32)value;
    *period_us = 167000;
    return OK;
}
int nvmlDeviceGetEncoderUtilization(struct GPU *GPU, u32 *out, u32 *period_us) {
    return sampled(__func__, GPU, "encoder", 3, out, period_us);
}
int nvmlDeviceGetDecoderUtilization(struct GPU *GPU, u32 *out, u32 *period_us) {
    return sampled(__func__, GPU, "decoder", 4, out, period_us);
}

struct temperature { u32 version, sensor; int celsius; };
int nvmlDeviceGetTemperatureV(struct GPU *GPU, struct temperature *out) {
    u64 value;
    int rc = number(__func__, GPU, "temperature_v", 0, &value);
    if (rc || (rc = number(__func__, GPU, "temperature", 52, &value))) return rc;
    if (out->version != (sizeof *out | 1 << 24)) return 25;
    out->celsius = (int)value;
    return OK;
}
int nvmlDeviceGetTemperature(struct GPU *GPU, u32 sensor, u32 *out) {
    u64 value;
    int rc = number(__func__, GPU, "temperature", 52, &value);
    (void)sensor;
    if (!rc) *out = (u32)value;
    return rc;
}

#define ANSWER_KEYED(FUNCTION, STEM, DEFAULT)                               \
    int FUNCTION(struct GPU *GPU, u32 which, u32 *out) {                  \
        char key[48];                                                       \
        u64 value;                                                          \
        int rc = number(__func__, GPU, keyed(key, STEM, which), DEFAULT, &value); \
        if (!rc) *out = (u32)value;                                         \
        return rc;                                                          \
    }
ANSWER_KEYED(nvmlDeviceGetTemperatureThreshold, "limit", 95 - which)
ANSWER_KEYED(nvmlDeviceGetClockInfo, "clock", 1000 + 100 * which)
ANSWER_KEYED(nvmlDeviceGetMaxClockInfo, "max_clock", 2000 + 100 * which)
ANSWER_KEYED(nvmlDeviceGetFanSpeed_v2, "fan", 30 + which)
ANSWER_KEYED(nvmlDeviceGetNvLinkState, "nvlink_state", 1)
ANSWER_U32(nvmlDeviceGetPowerUsage, "power", 215500)
ANSWER_U32(nvmlDeviceGetEnforcedPowerLimit, "power_limit", 700000)
ANSWER_U32(nvmlDeviceGetPowerManagementLimit, "power_limit", 700000)
ANSWER_U32(nvmlDeviceGetNumFans, "fans", 0)
ANSWER_U32(nvmlDeviceGetFanSpeed, "fan_0", 30)
ANSWER_U32(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation", 4)
ANSWER_U32(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_generation_max", 5)
ANSWER_U32(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width", 16)
ANSWER_U32(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max", 16)
ANSWER_U32(nvmlDeviceGetPerformanceState, "performance_state", 0)
ANSWER_U32(nvmlDeviceGetDisplayActive, "display_active", 0)
ANSWER_U32(nvmlDeviceGetDisplayMode, "display_mode", 0)
ANSWER_U32(nvmlDeviceGetPersistenceMode, "persistence_mode", 1)
ANSWER_U32(nvmlDeviceGetComputeMode, "compute_mode", 0)

int nvmlDeviceGetPcieThroughput(struct GPU *GPU, u32 which, u32 *out) {
    char key[48];
    u64 value;
    int rc = number(__func__, GPU, keyed(key, "pcie_throughput", which), 1000 + which, &value);
    if (rc) return rc;
    nap(scenario()->pcie_us);
    *out = (u32)value;
    return OK;
}

static int number64(const char *name, struct GPU *GPU, const char *key, u64 fallback, u64 *out) {
    u64 value;
    int rc = number(name, GPU, key, fallback, &value);
    if (!rc) *out = value;
    return rc;
}
int nvmlDeviceGetTotalEnergyConsumption(struct GPU *GPU, u64 *out) {
    return number64(__func__, GPU, "energy", 123456789, out);
}
int nvmlDeviceGetCurrentClocksEventReasons(struct GPU *GPU, u64 *out) {
    u64 ignored;
    int rc = number(__func__, GPU, "event_reasons", 0, &ignored);
    return rc ? rc : number64(__func__, GPU, "reasons", 0x4, out);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(struct GPU *GPU, u64 *out) {
    return number64(__func__, GPU, "reasons", 0x4, out);
}
int nvmlDeviceGetTotalEccErrors(struct GPU *GPU, u32 kind, u32 counter, u64 *out) {
    char key[48];
    (void)counter;
    return number64(__func__, GPU, keyed(key, "ecc_total", kind), 0, out);
}
int nvmlDeviceGetMemoryErrorCounter(struct GPU *GPU, u32 kind, u32 counter, u32 location, u64 *out) {
    char key[48];
    (void)counter;
    if (location != 2 && location != 7 && !find(GPU->gpu, "ecc_old")) return UNSUPPORTED;
    snprintf(key, sizeof key, "ecc_%u_%u", kind, location);
    return number64(__func__, GPU, key, 10 * location + kind, out);
}
int nvmlDeviceGetRemappedRows(struct GPU *GPU, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *failed) {
    u64 value;
    int rc = number(__func__, GPU, "remapped", 2, &value);
    if (rc) return rc;
    *corrected = (u32)value;
    *uncorrected = 1;
    *pending = 1;
    *failed = 0;
    return OK;
}

struct field { u32 id, scope; long long timestamp, latency_us; u32 type; u32 rc; union { double d; u32 u; u64 ull; } value; };
int nvmlDeviceGetFieldValues(struct GPU *GPU, int count, struct field *fields) {
    u64 ignored;
    int rc = number(__func__, GPU, "fields", 0, &ignored);
    if (rc) return rc;
    for (int i = 0; i < count; i++) {
        char key[48];
        const struct answer *a = find(GPU->gpu, keyed(key, "field", fields[i].id));
        fields[i].type = fields[i].id == 138 || fields[i].id == 139 ? 3 : 1;
        fields[i].rc = (u32)(a ? refusal(a) : fields[i].id == 82 ? OK : UNSUPPORTED);
        fields[i].value.ull = a ? strtoull(a->text, NULL, 10) : 61;
    }
    return OK;
}

/* GPM: "gpu N gpm 1" offers it, "gpu N gpm_5 40" is the percentage of metric 5. A sample remembers its GPU. */
struct gpm_sample { int gpu; };
struct gpm_support { u32 version, supported; };
struct gpm_metric { u32 id; int rc; double value; const char *text[3]; };
struct gpm_question { u32 version, count; struct gpm_sample *older, *newer; struct gpm_metric metrics[]; };
static int gpm_samples;
int fake_nvml_gpm_samples(void) { return gpm_samples; }

int nvmlGpmQueryDeviceSupport(struct GPU *GPU, struct gpm_support *out) {
    u64 value;
    int rc = number(__func__, GPU, "gpm", 0, &value);
    if (!rc) out->supported = (u32)value;
    return rc;
}
int nvmlGpmSampleAlloc(struct gpm_sample **out) {
    int rc = enter(__func__);
    if (rc) return rc;
    *out = calloc(1, sizeof **out);
    gpm_samples++;
    return OK;
}
int nvmlGpmSampleFree(struct gpm_sample *sample) {
    int rc = enter(__func__);
    if (rc) return rc;
    free(sample);
    gpm_samples--;
    return OK;
}
int nvmlGpmSampleGet(struct GPU *GPU, struct gpm_sample *sample) {
    u64 ignored;
    int rc = number(__func__, GPU, "gpm_sample", 0, &ignored);
    if (!rc) sample->gpu = GPU->gpu;
    return rc;
}
int nvmlGpmMetricsGet(struct gpm_question *q) {
    int rc = enter(__func__);
    if (rc) return rc;
    for (u32 i = 0; i < q->count; i++) {
        char key[48];
        u64 value = 0;
        q->metrics[i].rc = number(__func__, &GPUs[q->newer->gpu], keyed(key, "gpm", q->metrics[i].id), 0, &value);
        q->metrics[i].value = (double)value;
    }
    return OK;
}

int nvmlDeviceGetMigMode(struct GPU *GPU, u32 *current, u32 *pending) {
    struct scenario *s = scenario();
    u64 value = 0;
    int rc;
    for (int i = 0; i < s->partitions; i++) value |= s->partition[i].gpu == GPU->gpu;
    if ((rc = number(__func__, GPU, "mig_mode", value, &value))) return rc;
    *current = *pending = (u32)value;
    return OK;
}
ANSWER_U32(nvmlDeviceGetMaxMigDeviceCount, "max_mig", 7)
int nvmlDeviceIsMigDeviceHandle(struct GPU *GPU, u32 *out) {
    int rc = enter(__func__);
    *out = GPU->partition >= 0;
    return rc;
}
int nvmlDeviceGetMigDeviceHandleByIndex(struct GPU *GPU, u32 index, struct GPU **out) {
    struct scenario *s = scenario();
    int rc = enter(__func__);
    if (rc) return rc;
    for (int i = 0; i < s->partitions; i++)
        if (s->partition[i].gpu == GPU->gpu && s->partition[i].index == (int)index) {
            *out = &partitions[GPU->gpu][index];
            return OK;
        }
    return NOT_FOUND;
}
static struct partition *partition_of(const struct GPU *GPU) {
    struct scenario *s = scenario();
    for (int i = 0; i < s->partitions; i++)
        if (s->partition[i].gpu == GPU->gpu && s->partition[i].index == GPU->partition) return &s->partition[i];
    return NULL;
}
int nvmlDeviceGetGpuInstanceId(struct GPU *GPU, u32 *out) {
    int rc = enter(__func__);
    struct partition *m = partition_of(GPU);
    if (!rc && m) *out = m->gpu_instance;
    return rc ? rc : m ? OK : NOT_FOUND;
}
int nvmlDeviceGetComputeInstanceId(struct GPU *GPU, u32 *out) {
    int rc = enter(__func__);
    struct partition *m = partition_of(GPU);
    if (!rc && m) *out = m->compute_instance;
    return rc ? rc : m ? OK : NOT_FOUND;
}

struct process_info { u32 pid; u64 bytes; u32 gpu_instance, compute_instance; };
static int processes(const char *name, struct GPU *GPU, int graphics, u32 *count, struct process_info *out) {
    struct scenario *s = scenario();
    struct partition *m = GPU->partition < 0 ? NULL : partition_of(GPU);
    u32 room = *count, found = 0;
    u64 ignored;
    int rc = number(name, GPU, m ? "mig_processes" : "processes", 0, &ignored);
    if (rc) return rc;
    for (int i = 0; i < s->processes; i++) {
        struct process *p = &s->process[i];
        if (p->gpu != GPU->gpu || p->graphics != graphics || (m && p->instance != m->gpu_instance)) continue;
        if (out && found < room) out[found] = (struct process_info){p->pid, p->bytes, p->instance, 0xFFFFFFFFu};
        found++;
    }
    *count = found;
    return found > room || (found && !out) ? TOO_SMALL : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(struct GPU *GPU, u32 *count, struct process_info *out) {
    return processes(__func__, GPU, 0, count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(struct GPU *GPU, u32 *count, struct process_info *out) {
    return processes(__func__, GPU, 1, count, out);
}

struct event { struct GPU *GPU; u64 type, data; u32 gpu_instance, compute_instance; };
static int event_set;
int nvmlEventSetCreate(void **out) {
    int rc = enter(__func__);
    *out = &event_set;
    return rc;
}
int nvmlEventSetFree(void *set) {
    (void)set;
    memset(watched, 0, sizeof watched);
    return enter(__func__);
}
int nvmlDeviceGetSupportedEventTypes(struct GPU *GPU, u64 *out) {
    return number64(__func__, GPU, "event_types", 0xF, out);
}
int nvmlDeviceRegisterEvents(struct GPU *GPU, u64 types, void *set) {
    u64 ignored;
    int rc = number(__func__, GPU, "register_events", 0, &ignored);
    (void)set;
    if (!rc) watched[GPU->gpu] = (types & 8) != 0;
    return rc;
}
int nvmlEventSetWait_v2(void *set, struct event *out, u32 timeout_ms) {
    (void)set;
    count_call(__func__);
    for (u32 waited = 0; waited <= timeout_ms; waited++) {
        struct scenario *s = scenario();
        if (references == 0 || session_epoch != s->epoch) return UNINITIALIZED;
        int rc = refusal(find(ALL, "event_wait"));
        if (rc) return rc;
        for (int i = 0; i < s->xids; i++)
            if (s->xid[i].sequence > delivered && watched[s->xid[i].gpu]) {
                delivered = s->xid[i].sequence;
                *out = (struct event){&GPUs[s->xid[i].gpu], 8, s->xid[i].number, 0xFFFFFFFFu, 0xFFFFFFFFu};
                return OK;
            }
        nap(1000);
    }
    return TIMED_OUT;
}
