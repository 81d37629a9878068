//! Every shader in every variant, without a GPU: naga's validation and its SPIR-V, MSL and HLSL writers, the limits that any GPU and
//! the browser keep, and Rust's declarations against the shader's own by reflection.

use std::collections::BTreeSet;

use naga::{AddressSpace, StorageAccess, TypeInner};
use s3gpu::gpu::shader::expand;
use s3gpu::gpu::uniform_size;
use s3gpu::kernels::{Access, AnyKernel, Const, Elem, GROUP, registry};

/// Every variant that the cases compile.
fn variants(kernel: &dyn AnyKernel) -> BTreeSet<Vec<Const>> {
    kernel.cases().iter().map(|c| kernel.consts(&c.params)).collect()
}

/// Only kernels that say so may use subgroups.
fn capabilities(kernel: &dyn AnyKernel) -> naga::valid::Capabilities {
    if kernel.needs_subgroups() { naga::valid::Capabilities::SUBGROUP } else { naga::valid::Capabilities::empty() }
}

fn each_variant(mut f: impl FnMut(&dyn AnyKernel, &str, &naga::Module, &naga::valid::ModuleInfo)) {
    let mut seen = 0;
    for kernel in registry() {
        for consts in variants(kernel) {
            let name = format!("{} {consts:?}", kernel.name());
            let text = expand(&kernel.source(), &consts);
            let module =
                naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&text)));
            let mut validator = naga::valid::Validator::new(Default::default(), capabilities(kernel));
            let info = validator.validate(&module).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(&text)));
            f(kernel, &name, &module, &info);
            seen += 1;
        }
    }
    assert!(seen >= registry().len());
}

#[test]
fn validates_and_translates_to_spirv_msl_and_hlsl() {
    each_variant(|kernel, name, module, info| {
        let entry = kernel.name().to_string();
        let options = naga::back::spv::PipelineOptions { entry_point: entry, shader_stage: naga::ShaderStage::Compute };
        naga::back::spv::write_vec(module, info, &Default::default(), Some(&options))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let options = naga::back::msl::Options { fake_missing_bindings: true, ..Default::default() };
        naga::back::msl::write_string(module, info, &options, &Default::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut text = String::new();
        let (options, pipeline) = (Default::default(), Default::default());
        let mut writer = naga::back::hlsl::Writer::new(&mut text, &options, &pipeline);
        writer.write(module, info, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    });
}

#[test]
fn stays_within_the_limits_of_any_gpu_and_the_browser() {
    each_variant(|kernel, name, module, _| {
        // Eight are WebGPU's own limit; six leave room for an adapter that has fewer in practice.
        let most = if kernel.name() == "conv_backward_input_stats_gemm" { 8 } else { 6 };
        assert!(kernel.bindings().len() <= most, "{name}: more than {most} storage buffers");
        let [entry] = module.entry_points.as_slice() else { panic!("{name}: not one entry point") };
        assert_eq!(entry.name, kernel.name(), "{name}: entry point");
        assert_eq!(entry.workgroup_size, [GROUP, 1, 1], "{name}: workgroup size");
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("sized types");
        let workgroup = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
        let bytes: u32 = workgroup.map(|(_, v)| layouter[v.ty].size).sum();
        assert!(bytes <= 16 * 1024, "{name}: {bytes} bytes of workgroup memory");
        let text = kernel.source().text;
        assert!(!text.contains("enable ") && !text.contains("requires "), "{name}: directives do not run everywhere");
    });
}

#[test]
fn rust_declares_what_the_shader_declares() {
    each_variant(|kernel, name, module, _| {
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("sized types");
        let mut bound = 0;
        for (_, v) in module.global_variables.iter() {
            let Some(at) = &v.binding else { continue };
            assert_eq!(at.group, 0, "{name}: group");
            bound += 1;
            if at.binding == 0 {
                params(kernel, name, module, v.ty);
                assert!(u64::from(layouter[v.ty].size) <= uniform_size(kernel), "{name}: uniform size");
                continue;
            }
            let want = &kernel.bindings()[at.binding as usize - 1];
            assert_eq!(v.name.as_deref(), Some(want.name), "{name}: binding {}", at.binding);
            let writable = matches!(v.space, AddressSpace::Storage { access } if access.contains(StorageAccess::STORE));
            assert_eq!(writable, want.access != Access::Read, "{name}: access of {}", want.name);
            let TypeInner::Array { base, .. } = module.types[v.ty].inner else {
                panic!("{name}: {} is no array", want.name)
            };
            let scalar = match module.types[base].inner {
                TypeInner::Scalar(s) | TypeInner::Vector { scalar: s, .. } | TypeInner::Atomic(s) => s,
                ref other => panic!("{name}: {} holds {other:?}", want.name),
            };
            let elem = if scalar == naga::Scalar::F32 { Elem::F32 } else { Elem::U32 };
            assert_eq!(elem, want.elem, "{name}: element of {}", want.name);
        }
        assert_eq!(bound, kernel.bindings().len() + 1, "{name}: number of bindings");
    });
}

fn params(kernel: &dyn AnyKernel, name: &str, module: &naga::Module, ty: naga::Handle<naga::Type>) {
    let TypeInner::Struct { members, .. } = &module.types[ty].inner else { panic!("{name}: Params is no struct") };
    let got = members.iter().map(|m| {
        let ty = match module.types[m.ty].inner {
            TypeInner::Scalar(naga::Scalar::U32) => "u32",
            TypeInner::Scalar(naga::Scalar::F32) => "f32",
            TypeInner::Vector { size: naga::VectorSize::Quad, scalar: naga::Scalar::F32 } => "vec4<f32>",
            ref other => panic!("{name}: a parameter of type {other:?}"),
        };
        (m.name.clone().unwrap_or_default(), ty, m.offset as usize)
    });
    let want: Vec<_> = kernel.fields().iter().map(|f| (f.name.to_string(), f.ty, f.offset)).collect();
    assert_eq!(got.collect::<Vec<_>>(), want, "{name}: Params");
}

#[test]
fn names_are_unique_and_every_shader_file_is_registered() {
    let mut names: Vec<_> = registry().iter().map(|k| format!("{}.wgsl", k.source().path)).collect();
    names.sort();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files = Vec::new();
    for family in std::fs::read_dir(&root).expect("shaders/").flatten().filter(|d| d.file_name() != "common") {
        for file in std::fs::read_dir(family.path()).expect("a family's folder").flatten() {
            files.push(file.path().strip_prefix(&root).expect("below shaders/").display().to_string());
        }
    }
    files.sort();
    assert_eq!(names, files);
}
