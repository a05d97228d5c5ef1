import CKVM
import CLinux
import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import Testing
import VMMEngine
import VMMTerms

/// Whether this machine has a /dev/kvm to ask.
let hasKVM = access("/dev/kvm", R_OK | W_OK) == 0

/// A VMM of a page, which asks the engine as it would ask the kernel: by numbers and structures.
final class SmallVMM {
    static let handOff: UInt64 = 0x9000
    static let memory: UInt64 = 32 << 20
    let engine: VMMEngine
    let device: Int32
    private(set) var vm: Int32 = -1
    private(set) var vcpu: Int32 = -1
    private(set) var file: Int32 = -1
    private(set) var run: UnsafeMutableRawPointer!
    private(set) var shared: UnsafeMutableRawPointer!
    var exits: [UInt32] = []
    var serial = ""

    init(_ guest: EngineConfiguration.Guest, backing: EngineConfiguration.Backing = .automatic) throws {
        device = open("/dev/kvm", O_RDWR | O_CLOEXEC)
        engine = try VMMEngine(EngineConfiguration(backing: backing, guest: guest), device: device)
        engine.adopt(system: device)
    }

    deinit {
        engine.closeAll()
        for number in [file, vcpu, vm, device] where number >= 0 { Glibc.close(number) }
    }

    /// As the C library's ioctl, but for errno: negative for −errno.
    func ioctl(_ number: Int32, _ request: UInt32, _ argument: UInt) -> Int32 {
        engine.ioctl(number, request, argument)
            ?? tdxd_ioctl_pointer(number, request, UnsafeMutableRawPointer(bitPattern: argument))
    }

    func ioctl<Payload>(_ number: Int32, _ request: UInt32, _ payload: inout Payload) -> Int32 {
        withUnsafeMutableBytes(of: &payload) { ioctl(number, request, UInt(bitPattern: $0.baseAddress)) }
    }

    func ioctl(_ number: Int32, _ request: UInt32, words: inout [UInt64]) -> Int32 {
        words.withUnsafeMutableBytes { ioctl(number, request, UInt(bitPattern: $0.baseAddress)) }
    }

    func command(_ number: Int32, _ id: UInt32, flags: UInt32 = 0, data: UInt = 0) -> Int32 {
        var block = tdxd_kvm_tdx_cmd(id: id, flags: flags, data: UInt64(data), hw_error: 0)
        return ioctl(number, Ioctls.memoryEncryptOperation.request.number, &block)
    }

    func check(_ number: Int32, _ capability: UInt) -> Int32 { ioctl(number, Ioctls.checkExtension.number, capability) }

    func enable(_ capability: UInt32, _ argument: UInt64) -> Int32 {
        var block = kvm_enable_cap()
        block.cap = capability
        block.args.0 = argument
        return ioctl(vm, Ioctls.enableCapability.request.number, &block)
    }

    func createVM() -> Int32 {
        vm = ioctl(device, Ioctls.createVM.number, 5)
        return vm
    }

    /// Makes a TD of 16 MiB with one vCPU, in QEMU's order. What the guest finds as hand-off block says that all
    /// memory above 2 MiB is unaccepted.
    func build() throws {
        try #require(createVM() >= 0)
        try #require(enable(121, 24) == 0)
        try #require(enable(201, 1 << 12) == 0)
        try #require(initialize() == 0)
        vcpu = ioctl(vm, Ioctls.createVCPU.number, 0)
        try #require(vcpu >= 0)
        run = mmap(nil, 12_288, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0)
        try #require(run != MAP_FAILED)
        // Leaf 1 with x2APIC, and the address widths.
        var cpuid = [UInt64](repeating: 0, count: 1 + 5 * 3)
        cpuid.withUnsafeMutableBytes { bytes in
            func put(_ entry: Int, _ words: [UInt32]) {
                for (index, word) in words.enumerated() {
                    bytes.storeBytes(of: word, toByteOffset: 8 + entry * 40 + index * 4, as: UInt32.self)
                }
            }
            bytes.storeBytes(of: 3, toByteOffset: 0, as: UInt32.self)
            put(0, [1, 0, 0, 0, 0, 1 << 21, 0])
            put(1, [0x8000_0000, 0, 0, 0x8000_0008, 0, 0, 0])
            put(2, [0x8000_0008, 0, 0, 48 << 16 | 52, 0, 0, 0])
        }
        try #require(ioctl(vcpu, Ioctls.setCPUID2.request.number, words: &cpuid) == 0)
        var block = tdxd_kvm_create_guest_memfd()
        block.size = Self.memory
        file = ioctl(vm, Ioctls.createGuestMemfd.request.number, &block)
        try #require(file >= 0)
        shared = mmap(nil, Int(Self.memory), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        try #require(setSlot() == 0)
        try #require(setAttributes(0, Self.memory, 8) == 0)
        try #require(command(vcpu, 2, data: UInt(Self.handOff)) == 0)
        try #require(load() == 0)
        try #require(command(vm, 4) == 0)
    }

    func initialize(width: UInt32 = 48) -> Int32 {
        var block = [UInt64](repeating: 0, count: 33 + 5 * 2)
        block[1] = 3
        var words: [UInt32] = [0, 0, 0, 0]
        tdxd_cpuid(1, 0, &words)
        block.withUnsafeMutableBytes { bytes in
            bytes.storeBytes(of: 2, toByteOffset: 256, as: UInt32.self)
            bytes.storeBytes(of: 0x8000_0008, toByteOffset: 264, as: UInt32.self)
            bytes.storeBytes(of: width << 16, toByteOffset: 276, as: UInt32.self)
            bytes.storeBytes(of: 1, toByteOffset: 304, as: UInt32.self)
            bytes.storeBytes(of: words[0], toByteOffset: 316, as: UInt32.self)
        }
        return block.withUnsafeMutableBytes { command(vm, 1, data: UInt(bitPattern: $0.baseAddress)) }
    }

    func setSlot(flags: UInt32 = 4, size: UInt64 = SmallVMM.memory, fd: Int32? = nil) -> Int32 {
        var region = tdxd_kvm_userspace_memory_region2()
        region.flags = flags
        region.memory_size = size
        region.userspace_addr = UInt64(UInt(bitPattern: shared))
        region.guest_memfd = UInt32(bitPattern: fd ?? file)
        return ioctl(vm, Ioctls.setUserMemoryRegion2.request.number, &region)
    }

    func setAttributes(_ address: UInt64, _ size: UInt64, _ attributes: UInt64) -> Int32 {
        var block = tdxd_kvm_memory_attributes(address: address, size: size, attributes: attributes, flags: 0)
        return ioctl(vm, Ioctls.setMemoryAttributes.request.number, &block)
    }

    /// The hand-off block, measured.
    private func load() -> Int32 {
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { page.deallocate() }
        page.initializeMemory(as: UInt8.self, repeating: 0)
        page.storeBytes(of: 1, toByteOffset: 0, as: UInt16.self)
        page.storeBytes(of: 56, toByteOffset: 2, as: UInt16.self)
        page.storeBytes(of: 3, toByteOffset: 56, as: UInt16.self)
        page.storeBytes(of: 48, toByteOffset: 58, as: UInt16.self)
        page.storeBytes(of: 7, toByteOffset: 56 + 24, as: UInt32.self)
        page.storeBytes(of: 2 << 20, toByteOffset: 56 + 32, as: UInt64.self)
        page.storeBytes(of: Self.memory - 2 << 20, toByteOffset: 56 + 40, as: UInt64.self)
        page.storeBytes(of: 0xFFFF, toByteOffset: 104, as: UInt16.self)
        page.storeBytes(of: 8, toByteOffset: 106, as: UInt16.self)
        var region = tdxd_kvm_tdx_init_mem_region(
            source_addr: UInt64(UInt(bitPattern: page.baseAddress)), gpa: Self.handOff, nr_pages: 1)
        return withUnsafeMutableBytes(of: &region) {
            command(vcpu, 3, flags: 1, data: UInt(bitPattern: $0.baseAddress))
        }
    }

    /// Enters and answers, as QEMU does, until the guest's program has ended or KVM_RUN fails; the last result.
    func serve(until isDone: @escaping () -> Bool = { false }) -> Int32 {
        let ended = Ended()
        engine.whenGuestEnds { ended.set() }
        // The guest rests in KVM_RUN after its end: the byte that a kick would write.
        let byte = run.assumingMemoryBound(to: UInt8.self) + 1
        let address = UInt(bitPattern: byte)
        let watch = try? SystemThread(name: "kick") {
            for _ in 0..<6000 where !ended.isSet { usleep(10_000) }
            UnsafeMutablePointer<UInt8>(bitPattern: address)!.pointee = 1
        }
        defer {
            ended.set()
            watch?.join()
            byte.pointee = 0
        }
        while true {
            let result = ioctl(vcpu, Ioctls.run.number, 0)
            let reason = run.load(fromByteOffset: 8, as: UInt32.self)
            guard result == 0 || (result == -EFAULT && reason == 39) else { return result }
            exits.append(reason)
            guard answer(reason) else { return result }
            if isDone() { return result }
        }
    }

    private func answer(_ reason: UInt32) -> Bool {
        func word(_ offset: Int) -> UInt64 { run.load(fromByteOffset: offset, as: UInt64.self) }
        switch reason {
        case 3:
            let (address, size) = (word(40), word(48) * 4096)
            return convert(address, size, toPrivate: word(56) & 16 != 0)
        case 39: return convert(word(40), word(48), toPrivate: word(32) & 8 != 0)
        case 2:
            if run.load(fromByteOffset: 32, as: UInt8.self) == 1 {
                if run.load(fromByteOffset: 34, as: UInt16.self) == 0x3F8 {
                    serial.unicodeScalars.append(UnicodeScalar(run.load(fromByteOffset: 4096, as: UInt8.self)))
                }
            } else {
                run.storeBytes(of: 0x1234_5678, toByteOffset: 4096, as: UInt32.self)
            }
            return true
        case 6:
            if run.load(fromByteOffset: 52, as: UInt8.self) == 0 {
                run.storeBytes(of: 0x1122_3344_5566_7788, toByteOffset: 40, as: UInt64.self)
            }
            return true
        case 40:
            if word(40) == 0x10000 { run.storeBytes(of: 2, toByteOffset: 64, as: UInt64.self) }
            return true
        default: return false
        }
    }

    private func convert(_ address: UInt64, _ size: UInt64, toPrivate: Bool) -> Bool {
        guard setAttributes(address, size, toPrivate ? 8 : 0) == 0 else { return false }
        if toPrivate { return madvise(shared + Int(address), Int(size), 4) == 0 }
        return engine.fallocate(file, mode: 3, offset: Int64(address), length: Int64(size)) == 0
    }

    private final class Ended: @unchecked Sendable {
        private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        private var value = false
        init() { pthread_mutex_init(lock, nil) }
        func set() {
            pthread_mutex_lock(lock)
            value = true
            pthread_mutex_unlock(lock)
        }
        var isSet: Bool {
            pthread_mutex_lock(lock)
            defer { pthread_mutex_unlock(lock) }
            return value
        }
    }
}
