/// The methods of `io.tdxd.Manager`: their names, parameters and replies. Sizes and addresses in bytes.
public enum ManagerInterface {
    public enum Check {
        public static let method = InterfaceName.manager + ".Check"
        public typealias Reply = HostReport
    }

    public enum Create {
        public static let method = InterfaceName.manager + ".Create"

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            public var memoryBytes: UInt64
            public var vcpus: Int
            /// Absolute path of a TDVF image; nil for empty private memory.
            public var firmware: String?
            /// 96 hexadecimal digits, as the two that follow.
            public var mrconfigid: String?
            public var mrowner: String?
            public var mrownerconfig: String?
            /// All private memory is allocated before the TD is there.
            public var preallocate: Bool?
            /// How long to wait for what the host lacks; nil to be refused at once.
            public var waitMilliseconds: Int64?
            /// On which NUMA nodes memory is allocated; nil for wherever the allocating thread runs.
            public var numa: NUMAPolicy?
            /// All private memory is mapped into the TD's page table before the TD is there.
            public var prefault: Bool?

            public init(
                name: String, memoryBytes: UInt64, vcpus: Int, firmware: String? = nil, mrconfigid: String? = nil,
                mrowner: String? = nil, mrownerconfig: String? = nil, preallocate: Bool? = nil,
                waitMilliseconds: Int64? = nil, numa: NUMAPolicy? = nil, prefault: Bool? = nil
            ) {
                self.name = name
                self.memoryBytes = memoryBytes
                self.vcpus = vcpus
                self.firmware = firmware
                self.mrconfigid = mrconfigid
                self.mrowner = mrowner
                self.mrownerconfig = mrownerconfig
                self.preallocate = preallocate
                self.waitMilliseconds = waitMilliseconds
                self.numa = numa
                self.prefault = prefault
            }

            enum CodingKeys: String, CodingKey {
                case name
                case memoryBytes = "memory_bytes"
                case vcpus, firmware, mrconfigid, mrowner, mrownerconfig, preallocate, numa, prefault
                case waitMilliseconds = "wait_ms"
            }
        }

        /// Progress while it lasts; the domain in the last reply.
        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var domain: TrustDomain?

            public init(progress: Progress) { self.progress = progress }
            public init(domain: TrustDomain) { self.domain = domain }
        }
    }

    public enum List {
        public static let method = InterfaceName.manager + ".List"

        public struct Reply: Codable, Hashable, Sendable {
            public var domains: [TrustDomain]
            public init(domains: [TrustDomain]) { self.domains = domains }
        }
    }

    public enum Show {
        public static let method = InterfaceName.manager + ".Show"
        public typealias Parameters = DomainName

        public struct Reply: Codable, Hashable, Sendable {
            public var domain: TrustDomain
            public init(domain: TrustDomain) { self.domain = domain }
        }
    }

    public enum Convert {
        public static let method = InterfaceName.manager + ".Convert"

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            public var gpa: UInt64
            public var bytes: UInt64
            public var to: MemorySide

            public init(name: String, gpa: UInt64, bytes: UInt64, to: MemorySide) {
                self.name = name
                self.gpa = gpa
                self.bytes = bytes
                self.to = to
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            public var gpa: UInt64
            public var bytes: UInt64
            public var to: MemorySide
            /// What was on the other side before.
            public var changedBytes: UInt64
            /// What the side that was left gave back.
            public var discardedBytes: UInt64
            public var milliseconds: Double
            /// In every reply but the last, whose figures are those so far.
            public var progress: Progress?

            public init(
                name: String, backend: Backend, gpa: UInt64, bytes: UInt64, to: MemorySide, changedBytes: UInt64,
                discardedBytes: UInt64, milliseconds: Double, progress: Progress? = nil
            ) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.gpa = gpa
                self.bytes = bytes
                self.to = to
                self.changedBytes = changedBytes
                self.discardedBytes = discardedBytes
                self.milliseconds = milliseconds
                self.progress = progress
            }

            enum CodingKeys: String, CodingKey {
                case name, backend, emulated, gpa, bytes, to
                case changedBytes = "changed_bytes"
                case discardedBytes = "discarded_bytes"
                case milliseconds, progress
            }
        }
    }

    public enum Map {
        public static let method = InterfaceName.manager + ".Map"
        public typealias Parameters = DomainName

        public struct Reply: Codable, Hashable, Sendable {
            public var name: String
            public var backend: Backend
            public var emulated: Bool
            public var runs: [MemoryRun]

            public init(name: String, backend: Backend, runs: [MemoryRun]) {
                self.name = name
                self.backend = backend
                self.emulated = backend.isEmulated
                self.runs = runs
            }
        }
    }

    public enum Stop {
        public static let method = InterfaceName.manager + ".Stop"

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            /// A `StopPolicy`; nil for the configured one.
            public var policy: String?
            /// Nil for the configured pace.
            public var bytesPerSecond: Int64?
            /// What one punch gives back; nil for the configured size.
            public var chunkBytes: Int64?
            /// When the answer comes at the latest.
            public var deadlineMilliseconds: Int64?
            /// A `StopWait`; nil for the configured one.
            public var wait: String?

            public init(
                name: String, policy: String? = nil, bytesPerSecond: Int64? = nil, chunkBytes: Int64? = nil,
                deadlineMilliseconds: Int64? = nil, wait: String? = nil
            ) {
                self.name = name
                self.policy = policy
                self.bytesPerSecond = bytesPerSecond
                self.chunkBytes = chunkBytes
                self.deadlineMilliseconds = deadlineMilliseconds
                self.wait = wait
            }

            enum CodingKeys: String, CodingKey {
                case name, policy
                case bytesPerSecond = "bytes_per_second"
                case chunkBytes = "chunk_bytes"
                case deadlineMilliseconds = "deadline_ms"
                case wait
            }
        }

        /// Progress while it lasts; the certificate in the last reply.
        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var certificate: TeardownCertificate?

            public init(progress: Progress) { self.progress = progress }
            public init(certificate: TeardownCertificate) { self.certificate = certificate }
        }
    }

    public enum Reclaim {
        public static let method = InterfaceName.manager + ".Reclaim"
        public typealias Reply = Stop.Reply

        public struct Parameters: Codable, Hashable, Sendable {
            public var name: String
            /// Nil for as fast as it goes.
            public var bytesPerSecond: Int64?
            /// Nil for the configured size.
            public var chunkBytes: Int64?

            public init(name: String, bytesPerSecond: Int64? = nil, chunkBytes: Int64? = nil) {
                self.name = name
                self.bytesPerSecond = bytesPerSecond
                self.chunkBytes = chunkBytes
            }

            enum CodingKeys: String, CodingKey {
                case name
                case bytesPerSecond = "bytes_per_second"
                case chunkBytes = "chunk_bytes"
            }
        }
    }

    public enum SelfTest {
        public static let method = InterfaceName.manager + ".SelfTest"

        /// Each step as it ends; backend, verdict and all steps in the last reply.
        public struct Reply: Codable, Hashable, Sendable {
            public var step: SelfTestStep?
            public var backend: String?
            public var passed: Bool?
            public var steps: [SelfTestStep]?

            public init(step: SelfTestStep) { self.step = step }
            public init(backend: Backend, passed: Bool, steps: [SelfTestStep]) {
                self.backend = backend.rawValue
                self.passed = passed
                self.steps = steps
            }
        }
    }

    /// The parameters of a method that is about one TD.
    public struct DomainName: Codable, Hashable, Sendable {
        public var name: String
        public init(name: String) { self.name = name }
    }
}
