import CPeers
import ConfidentialMemory
import FirmwareImage
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import TDXEmulator

/// A TD on the emulated backend whose private pages are all present in real guest_memfds.
private func makeResident(_ size: ByteCount, on system: EmulatedKVMSystem) throws -> ConfidentialMemory.TrustDomain {
    var configuration = TrustDomainConfiguration(name: "bench", layout: try GuestMemoryLayout(memory: size), vcpus: 1)
    configuration.isPreallocated = true
    return try ConfidentialMemory.TrustDomain(configuration, system: system)
}

/// Ends a TD and checks that nothing is resident any more; nanoseconds, and those until the first GiB was back.
private func stop(_ domain: ConfidentialMemory.TrustDomain) throws -> (all: Double, first: Double) {
    let start = peer_now()
    let first = Atomic<UInt64>(0)
    let report = try domain.stop { progress in
        if progress.done >= .gibibytes(1), first.load(ordering: .relaxed) == 0 {
            first.store(peer_now() - start, ordering: .relaxed)
        }
    }
    let all = peer_now() - start
    if let failure = report.failures.words { throw Unavailable(failure) }
    guard report.remaining == .zero else { throw Unavailable("memory is left") }
    return (Double(all), Double(first.load(ordering: .relaxed)))
}

/// One TD of 8 GiB in this process, until nothing is resident by cachestat(2), against a program that just goes.
func measureStop(_ report: inout Report) throws {
    let size = ByteCount.gibibytes(8)
    var firsts: [Double] = []
    let pair = try interleaved(
        runs: report.runs,
        ours: {
            let system = try EmulatedKVMSystem(host: .guestMemfd(KernelKVMSystem()))
            let times = try stop(makeResident(size, on: system))
            firsts.append(times.first / 1e6)
            return times.all / 1e6
        },
        peer: {
            let program = peer_program_start(size.rawValue)
            guard program.pid > 0 else { throw Unavailable("the peer got no memory") }
            return try checked(peer_program_end(program)) / 1e6
        })
    let peer = "C, a program that closes one guest_memfd of 8 GiB and exits"
    report.rows.append(
        Row(
            report.area, "stop of a TD with 8 GiB resident, in process, until nothing is resident", pair, "ms",
            against: peer, .ratio(atMost: 0.65)))
    report.rows.append(
        Row(
            report.area, "first GiB of it available again", Pair(ours: median(firsts), peer: pair.peer), "ms",
            against: peer, .ratio(atMost: 0.2)))
}

/// 16 TDs of 512 MiB stopped by 16 threads, against one thread that stops one after another.
func measureManyStops(_ report: inout Report) throws {
    func make() throws -> [ConfidentialMemory.TrustDomain] {
        let system = try EmulatedKVMSystem(
            EmulatorConfiguration(host: .guestMemfd(KernelKVMSystem()), keyIDs: (33..<49).map { KeyID($0) }))
        return try (0..<16).map { _ in try makeResident(.mebibytes(512), on: system) }
    }
    let pair = try interleaved(
        runs: report.runs,
        ours: {
            let domains = try make()
            let failures = Atomic<Int>(0)
            let time = try nanoseconds {
                let threads = try domains.map { domain in
                    try SystemThread(name: "bench-stop") {
                        do { _ = try stop(domain) } catch { failures.add(1, ordering: .relaxed) }
                    }
                }
                for thread in threads { thread.join() }
            }
            guard failures.load(ordering: .relaxed) == 0 else { throw Unavailable("a stop failed") }
            return time / 1e6
        },
        peer: {
            let domains = try make()
            return try nanoseconds { for domain in domains { _ = try stop(domain) } } / 1e6
        })
    report.rows.append(
        Row(
            report.area, "16 TDs of 512 MiB stopped at once, in process", pair, "ms", against: "one after another",
            .ratio(atMost: 0.6)))
}
