internal import CLinux
internal import CTDXVMM
internal import Glibc
internal import VMMEngine
internal import VMMTerms

/// What `struct tdx_vmm` is.
private final class Library {
    let engine: VMMEngine
    let device: Int32

    init(_ guest: EngineConfiguration.Guest) throws {
        device = tdxd_open("/dev/kvm", O_RDWR | O_CLOEXEC, 0)
        guard device >= 0 else { throw EngineError(description: "/dev/kvm cannot be opened: errno \(-device)") }
        do {
            engine = try VMMEngine(EngineConfiguration(guest: guest), device: device)
        } catch {
            _ = tdxd_close(device)
            throw error
        }
        engine.adopt(system: device)
    }

    var report: EngineReport { engine.report(program: "libtdx-vmm") }

    static func of(_ vmm: OpaquePointer?) -> Library {
        Unmanaged<Library>.fromOpaque(UnsafeRawPointer(vmm!)).takeUnretainedValue()
    }

    static func make(
        _ error: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ guest: () throws -> EngineConfiguration.Guest
    ) -> OpaquePointer? {
        do {
            return OpaquePointer(Unmanaged.passRetained(try Library(guest())).toOpaque())
        } catch let cause {
            error?.pointee = strdup("\(cause)")
            return nil
        }
    }
}

@_cdecl("tdx_vmm_begin")
public func begin(
    _ guest: UnsafePointer<CChar>, _ error: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> OpaquePointer? {
    Library.make(error) { try .read(String(cString: guest)) }
}

@_cdecl("tdx_vmm_begin_script")
public func beginScript(
    _ text: UnsafePointer<CChar>, _ error: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> OpaquePointer? {
    Library.make(error) { .script(try GuestScript(parsing: String(cString: text)), name: "script") }
}

@_cdecl("tdx_vmm_device")
public func device(_ vmm: OpaquePointer?) -> Int32 { Library.of(vmm).device }

@_cdecl("tdx_vmm_ioctl")
public func request(
    _ vmm: OpaquePointer?, _ descriptor: Int32, _ request: CUnsignedLong, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    let number = UInt32(truncatingIfNeeded: request)
    if let result = Library.of(vmm).engine.ioctl(descriptor, number, UInt(bitPattern: argument)) { return result }
    return Int32(
        truncatingIfNeeded: tdxd_raw_call(
            CLong(SYS_ioctl), CLong(descriptor), CLong(number), CLong(bitPattern: argument)))
}

@_cdecl("tdx_vmm_fallocate")
public func allocate(
    _ vmm: OpaquePointer?, _ descriptor: Int32, _ mode: Int32, _ offset: Int64, _ length: Int64
) -> Int32 {
    if let result = Library.of(vmm).engine.fallocate(descriptor, mode: mode, offset: offset, length: length) {
        return result
    }
    return fallocate(descriptor, mode, Int(offset), Int(length)) == 0 ? 0 : -errno
}

@_cdecl("tdx_vmm_close")
public func closeNumber(_ vmm: OpaquePointer?, _ descriptor: Int32) -> Int32 {
    let closing = Library.of(vmm).engine.closing(descriptor)
    let result = tdxd_close(descriptor)
    closing?.finish()
    return result
}

@_cdecl("tdx_vmm_report")
public func report(_ vmm: OpaquePointer?) -> UnsafeMutablePointer<CChar>? {
    strdup(String(decoding: Library.of(vmm).report.encoded(), as: UTF8.self))
}

@_cdecl("tdx_vmm_guest_has_ended")
public func guestHasEnded(_ vmm: OpaquePointer?) -> Int32 { Library.of(vmm).report.guest.state == "finished" ? 1 : 0 }

@_cdecl("tdx_vmm_guest_failures")
public func guestFailures(_ vmm: OpaquePointer?) -> Int32 {
    Int32(clamping: Library.of(vmm).report.guest.failures.count)
}

@_cdecl("tdx_vmm_end")
public func end(_ vmm: OpaquePointer?) -> Int32 {
    let library = Unmanaged<Library>.fromOpaque(UnsafeRawPointer(vmm!)).takeRetainedValue()
    let last = library.engine.closingReport(program: "libtdx-vmm")
    library.engine.closeNumbers()
    return last.leaks?.isEmpty == true && last.guest.failures.isEmpty ? 0 : 1
}
