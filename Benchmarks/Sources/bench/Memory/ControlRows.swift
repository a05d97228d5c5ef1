import CPeers
import ConfidentialMemory
import ControlInterface
import FirmwareImage
import Glibc
import KVM
import MemoryUnits
import TDXEmulator
import Varlink

/// A request over the API: client, tdxd, holder and back, against the same call in this process. Nothing is resident, so
/// that the way there is what is measured.
func measureControl(_ report: inout Report) throws {
    guard let socket = getenv("TDXD_BENCH_SOCKET").map({ String(cString: $0) }) else {
        throw Unavailable("no tdxd to ask (TDXD_BENCH_SOCKET); scripts/bench starts one")
    }
    let size = ByteCount.mebibytes(256)
    let block: UInt64 = 2 << 20
    let name = "bench"
    let client = try VarlinkClient.connect(socket)
    try client.callMore(
        ManagerInterface.Create.method,
        ManagerInterface.Create.Parameters(name: name, memoryBytes: size.rawValue, vcpus: 1),
        as: ManagerInterface.Create.Reply.self
    ) { _, _ in }
    defer {
        try? client.callMore(
            ManagerInterface.Stop.method, ManagerInterface.Stop.Parameters(name: name),
            as: ManagerInterface.Stop.Reply.self
        ) { _, _ in }
    }

    let system = try EmulatedKVMSystem(host: .guestMemfd(KernelKVMSystem()))
    let domain = try ConfidentialMemory.TrustDomain(
        TrustDomainConfiguration(name: name, layout: GuestMemoryLayout(memory: size), vcpus: 1), system: system)
    defer { _ = try? domain.stop() }
    let range = GuestPhysicalRange(start: GuestPhysicalAddress(0), size: ByteCount(block))

    func each(_ convert: (MemorySide) throws -> Void) throws -> Double {
        var times: [Double] = []
        for _ in 0..<100 {
            times.append(try nanoseconds { try convert(.shared) })
            times.append(try nanoseconds { try convert(.private) })
        }
        return median(times) / 1000
    }
    let pair = try interleaved(
        runs: report.runs,
        ours: {
            try each { side in
                _ = try client.call(
                    ManagerInterface.Convert.method,
                    ManagerInterface.Convert.Parameters(
                        name: name, gpa: 0, bytes: block, to: side == .private ? .private : .shared),
                    as: ManagerInterface.Convert.Reply.self)
            }
        },
        peer: { try each { side in _ = try domain.convert(range, to: side) } })
    report.rows.append(
        Row(
            report.area, "convert 2 MiB by request over the API (tdxd and holder)", pair, "µs",
            against: "the same call in one process, emulated guest_memfd backend", .difference(atMost: 150, "µs")))
}
