internal import LinuxSystem

/// Messages on their way to a client, with the descriptors that go with the first byte of each.
struct OutputQueue {
    struct Segment {
        var bytes: ArraySlice<UInt8>
        var descriptors: [RetainedDescriptor]
    }

    private var segments: [Segment] = []
    /// Bytes not yet taken by the kernel.
    private(set) var byteCount = 0

    var isEmpty: Bool { segments.isEmpty }
    var first: Segment? { segments.first }

    mutating func append(_ message: [UInt8], descriptors: [RetainedDescriptor] = []) {
        guard !message.isEmpty else { return }
        byteCount += message.count
        // Small messages without descriptors go out in one call.
        if descriptors.isEmpty, let last = segments.indices.last, segments[last].bytes.count < 1 << 16,
            segments[last].descriptors.isEmpty
        {
            segments[last].bytes.append(contentsOf: message)
        } else {
            segments.append(Segment(bytes: message[...], descriptors: descriptors))
        }
    }

    /// Notes that the kernel took `count` bytes of the first segment, and so its descriptors.
    mutating func consumed(_ count: Int) {
        byteCount -= count
        segments[0].bytes.removeFirst(count)
        segments[0].descriptors = []
        if segments[0].bytes.isEmpty { segments.removeFirst() }
    }
}
