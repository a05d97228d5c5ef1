import Glibc
import LinuxSystem
import MemoryUnits
import Synchronization
import TDXModule
import TDXModuleServer

/// The kernel's side of the mailbox, without a kernel: memory in files, a doorbell, and calls from any thread.
final class StandInKernel: Sendable {
    let directory: String
    let memory: MachineMemory
    let server: ModuleServer
    private let bell = Mutex<Int32>(-1)
    private let result = Mutex<Result<ServerReport, ServerError>?>(nil)
    private let thread = Mutex<SystemThread?>(nil)

    static let mailboxes: UInt64 = 0x10_0000

    /// A machine with 64 MiB on each of two nodes, of which 32 MiB lie below 4 GiB.
    init(guest: String = "", trace: String? = nil, faults: [PlannedFault] = []) throws {
        var template = Array("/tmp/module-server.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw ServerError("mkdtemp") }
        directory = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        let files = (0..<2).map { [directory] in "\(directory)/memory\($0)" }
        for file in files {
            let number = open(file, O_RDWR | O_CREAT, 0o600)
            ftruncate(number, 64 << 20)
            close(number)
        }
        guard mkfifo(directory + "/bell", 0o600) == 0 else { throw ServerError("mkfifo") }
        memory = try MachineMemory(files: files, lowLimit: .mebibytes(32))
        let lines = Lines()
        server = try ModuleServer(
            ServerOptions(
                memory: files, lowMemory: .mebibytes(32), bell: directory + "/bell",
                guest: try GuestScript(parsing: guest), trace: trace.map { [directory] in "\(directory)/\($0)" },
                faults: faults)
        ) { lines.add($0) }
        self.heard = lines
    }

    private let heard: Lines
    var said: [String] { heard.all }

    final class Lines: Sendable {
        private let lines = Mutex<[String]>([])
        func add(_ line: String) { lines.withLock { $0.append(line) } }
        var all: [String] { lines.withLock { $0 } }
    }

    deinit {
        for name in ["memory0", "memory1", "bell", "trace"] { unlink("\(directory)/\(name)") }
        rmdir(directory)
    }

    /// The server begins, and the kernel announces itself.
    func boot(_ line: String = "seamlab 2 100000 2 31 32 46") throws {
        let started = try SystemThread(name: "server") { [self] in
            do throws(ServerError) {
                let report = try server.run()
                result.withLock { $0 = .success(report) }
            } catch { result.withLock { $0 = .failure(error) } }
        }
        thread.withLock { $0 = started }
        let number = open(directory + "/bell", O_WRONLY | O_CLOEXEC)
        bell.withLock { $0 = number }
        ring(Array((line + "\n").utf8))
    }

    func ring(_ bytes: [UInt8]) { _ = bell.withLock { write($0, bytes, bytes.count) } }

    /// The machine ends.
    func powerOff() throws -> ServerReport {
        bell.withLock { _ = close($0) }
        thread.withLock { $0 }?.join()
        return try result.withLock { $0! }.get()
    }

    private func word(_ processor: Int, _ index: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        let page = HostPhysicalAddress(Self.mailboxes + UInt64(processor) * 4096)
        return (memory.pointer(page, 4096)! + 8 * index).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    func interrupt(_ processor: Int) { word(processor, 1).pointee.store(1, ordering: .relaxed) }

    /// One SEAMCALL, as seamlab.c makes it.
    func call(_ registers: Registers, on processor: Int = 0) -> Registers {
        ask(registers, on: processor)
        return answer(on: processor)
    }

    func ask(_ r: Registers, on processor: Int) {
        let values = [
            r.rax, r.rcx, r.rdx, r.rbx, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15,
        ]
        for (index, value) in values.enumerated() {
            word(processor, 2 + index).pointee.store(value, ordering: .relaxed)
        }
        word(processor, 1).pointee.store(0, ordering: .relaxed)
        word(processor, 0).pointee.store(1, ordering: .releasing)
        ring([UInt8(processor)])
    }

    /// A line for the server itself, as seamlab.c hands it on.
    /// - Returns: whether the server understood it.
    func order(_ text: String, on processor: Int = 0) -> Bool {
        let page = HostPhysicalAddress(Self.mailboxes + UInt64(processor) * 4096)
        let place = (memory.pointer(page, 4096)! + 1024).assumingMemoryBound(to: UInt8.self)
        for (index, byte) in (Array(text.utf8) + [0]).enumerated() { place[index] = byte }
        word(processor, 0).pointee.store(3, ordering: .releasing)
        ring([UInt8(processor)])
        return answer(on: processor).rax == 0
    }

    func answer(on processor: Int) -> Registers {
        while word(processor, 0).pointee.load(ordering: .acquiring) != 2 { usleep(20) }
        word(processor, 0).pointee.store(0, ordering: .relaxed)
        func value(_ index: Int) -> UInt64 { word(processor, 2 + index).pointee.load(ordering: .relaxed) }
        return Registers(
            rax: value(0), rcx: value(1), rdx: value(2), rbx: value(3), rbp: value(4), rsi: value(5), rdi: value(6),
            r8: value(7), r9: value(8), r10: value(9), r11: value(10), r12: value(11), r13: value(12),
            r14: value(13), r15: value(14))
    }
}
