/*
The runtime's part of shadow/mma.h: products of wmma fragments.
*/
namespace cuda_on_cpu {

void check_fragment(const void *p, unsigned ld, size_t size, unsigned least) {
    enter(CALLER);
    if (reinterpret_cast<uintptr_t>(p) % 32)
        report("misaligned access", current, current->pc, "a fragment at %p\n    -> wmma takes multiples of 32 bytes",
               p);
    if (ld < least || ld * size % 16)
        report("bad fragment", current, current->pc,
               "leading dimension %u\n    -> here at least %u, and a multiple of %zu", ld, least, 16 / size);
}

static void multiply_fragments(Thread *warp_threads) {
    auto part = [=](int lane) { return reinterpret_cast<const MatrixProduct *>(warp_threads[lane].value); };
    const int m = part(0)->m, n = part(0)->n, k = part(0)->k;
    float a[32 * 16], b[16 * 32], c[256];
    for (int lane = 0; lane < 32; lane++) {
        const MatrixProduct *p = part(lane);
        for (int i = 0; i < m * k / 32; i++) a[fragment_element(unsigned(lane), i)] = __bfloat162float(p->a[i]);
        for (int i = 0; i < k * n / 32; i++) b[fragment_element(unsigned(lane), i)] = __bfloat162float(p->b[i]);
        for (int i = 0; i < m * n / 32; i++) c[fragment_element(unsigned(lane), i)] = p->c[i];
    }
    for (int i = 0; i < m; i++)
        for (int l = 0; l < k; l++)
            for (int j = 0; j < n; j++) c[i * n + j] += a[i * k + l] * b[l * n + j];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < m * n / 32; i++) part(lane)->d[i] = c[fragment_element(unsigned(lane), i)];
}

} // namespace cuda_on_cpu
