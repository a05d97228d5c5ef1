internal import CLinux
public import CVMMDoor
internal import Glibc
internal import LinuxSystem
internal import Synchronization
internal import SystemPackage
internal import VMMEngine
internal import VMMTerms

/// The engine of the library's own open, ioctl and close, in a VMM's process.
final class Door: Sendable {
    let engine: VMMEngine
    private let settings: VMMSettings
    private let program: String
    private let hasTold = Atomic(false)
    private let reporting = Mutex(())
    /// The process ends: guests that are stopped on the way are no news.
    private let isEnding = Atomic(false)

    private init(_ engine: VMMEngine, _ settings: VMMSettings) {
        self.engine = engine
        self.settings = settings
        program = (try? TextFile.read("/proc/self/comm"))?.split(separator: "\n").first.map(String.init) ?? "?"
    }

    /// Nil where the library has nothing to do: then every call is the kernel's.
    static func make(_ number: Int32) -> Door? {
        do {
            let settings: VMMSettings
            do throws(VMMSettingsError) {
                settings = try VMMSettings { variable in getenv(variable.rawValue).map { String(cString: $0) } }
            } catch { throw EngineError(description: "\(error)") }
            switch settings.emulate {
            case .never: return nil
            case .auto where hostHasTDX(number): return nil
            case .auto, .always: break
            }
            let guest = try EngineConfiguration.Guest.read(settings.guest)
            let backing: EngineConfiguration.Backing =
                switch settings.backing {
                case "guest_memfd": .guestMemfd
                case "memfd": .memfd
                default: .automatic
                }
            let engine = try VMMEngine(
                EngineConfiguration(backing: backing, guest: guest, trace: settings.trace), device: number,
                tracking: { tdxd_door_track($0, $1 ? 1 : 0) })
            let door = Door(engine, settings)
            engine.whenGuestEnds { [unowned door] in door.guestEnded() }
            return door
        } catch {
            say("TDX is not emulated: \(error)")
            return nil
        }
    }

    /// KVM_CHECK_EXTENSION(KVM_CAP_VM_TYPES) has bit 5.
    private static func hostHasTDX(_ number: Int32) -> Bool {
        let types = ioctlNumber(number, 0xAE03, 235)
        return types >= 0 && types & 1 << 5 != 0
    }

    static func say(_ text: String) {
        let bytes = Array("tdxd: \(text)\n".utf8)
        _ = bytes.withUnsafeBytes { tdxd_write(2, $0.baseAddress, $0.count) }
    }

    // MARK: Calls

    func ioctl(_ number: Int32, _ request: UInt32, _ argument: UInt) -> Int64 {
        guard let result = engine.ioctl(number, request, argument) else { return doorPass }
        if request == 0xAE01, result >= 0, !settings.isQuiet, !hasTold.exchange(true, ordering: .relaxed) {
            Self.say("TDX is emulated in this process: no memory is encrypted, guest “\(settings.guest)”")
        }
        // KVM_MEMORY_ENCRYPT_OP: a TD may have become runnable.
        if request == 0xC008_AEBA, result >= 0 { writeReport(isLast: false) }
        return Int64(result)
    }

    private func guestEnded() {
        tdxd_door_enter()
        guard !isEnding.load(ordering: .acquiring) else { return }
        writeReport(isLast: false)
        if settings.endsWithGuest { _ = tdxd_kill(tdxd_getpid(), SIGTERM) }
    }

    func ending() {
        isEnding.store(true, ordering: .releasing)
        if settings.report != nil { writeReport(isLast: true) }
    }

    /// Written anew each time; who reads it meanwhile finds the one before.
    private func writeReport(isLast: Bool) {
        guard let path = settings.report else { return }
        reporting.withLock { _ in
            let report = isLast ? engine.closingReport(program: program) : engine.report(program: program)
            let bytes = report.encoded() + [UInt8(ascii: "\n")]
            let draft = path + ".new"
            _ = unlink(draft)
            let file = tdxd_open(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
            guard file >= 0 else { return }
            let written = bytes.withUnsafeBytes { tdxd_write(file, $0.baseAddress, $0.count) }
            _ = tdxd_close(file)
            if written == bytes.count { _ = rename(draft, path) }
        }
    }
}

private let doorPass = Int64.min

private func ioctlNumber(_ number: Int32, _ request: UInt32, _ argument: Int) -> Int64 {
    Int64(tdxd_raw_call(CLong(SYS_ioctl), CLong(number), CLong(request), argument))
}

// MARK: What C calls

// Sound: written once, before any of the calls below can be made.
private nonisolated(unsafe) var door: Door?
private nonisolated(unsafe) var table = tdxd_door_calls(
    opened: { number in
        door!.engine.adopt(system: number)
        return 1
    },
    ioctl: { number, request, argument in door!.ioctl(number, request, argument) },
    fallocate: { number, mode, offset, length in
        door!.engine.fallocate(number, mode: mode, offset: offset, length: length).map(Int64.init) ?? doorPass
    },
    closing: { number in
        guard let closing = door!.engine.closing(number) else { return nil }
        return Unmanaged.passRetained(ClosingToken(closing)).toOpaque()
    },
    closed: { token in Unmanaged<ClosingToken>.fromOpaque(token!).takeRetainedValue().closing.finish() },
    duplicated: { number, copy in door!.engine.duplicated(number, as: copy) },
    map: { number in
        switch door!.engine.mapping(number) {
        case .plain: doorPass
        case .refused(let result): Int64(result)
        case .untouchable(let file): Int64(file)
        }
    },
    ending: { door!.ending() })

private final class ClosingToken {
    let closing: VMMEngine.Closing
    init(_ closing: VMMEngine.Closing) { self.closing = closing }
}

/// Called once, when the first /dev/kvm is seen.
@_cdecl("tdxd_vmm_start")
public func startDoor(_ number: Int32) -> UnsafePointer<tdxd_door_calls>? {
    door = Door.make(number)
    guard door != nil else { return nil }
    return withUnsafePointer(to: &table) { $0 }
}
