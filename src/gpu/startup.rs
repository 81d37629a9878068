//! The way from the adapter to the first step, by part.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Kept;

/// Seconds of each part of a start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Startup {
    /// Adapter list, device and subgroup probe.
    pub adapter: f64,
    /// Graph, lowering and plan.
    pub plan: f64,
    /// Buffers.
    pub buffers: f64,
    /// Pipelines, all variants.
    pub pipelines: f64,
    /// Kernel variants compiled.
    pub variants: usize,
    /// Whether the driver was given an earlier start's pipelines.
    pub kept: Kept,
    /// Uniforms and bind groups.
    pub groups: f64,
    /// From handing in the first training step to its end; before that none. Some drivers compile here.
    pub first_step: Option<f64>,
    /// What was wrong with the cache folder.
    pub notes: Vec<String>,
}

impl Startup {
    /// Names and seconds in order; what has not been is left out.
    pub fn parts(&self) -> Vec<(&'static str, f64)> {
        let parts = [
            ("adapter", Some(self.adapter)),
            ("plan", Some(self.plan)),
            ("buffers", Some(self.buffers)),
            ("pipelines", Some(self.pipelines)),
            ("bind groups", Some(self.groups)),
            ("first step", self.first_step),
        ];
        parts.into_iter().filter_map(|(name, s)| Some((name, s?))).collect()
    }

    /// Their sum.
    pub fn total(&self) -> f64 {
        self.parts().iter().map(|p| p.1).sum()
    }
}

impl fmt::Display for Startup {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "start: {:.2} s", self.total())?;
        for (i, (name, seconds)) in self.parts().into_iter().enumerate() {
            write!(f, "{} {name} {seconds:.2}", if i == 0 { " =" } else { "," })?;
            if name == "pipelines" {
                let kept = match self.kept {
                    Kept::Off => "no cache",
                    Kept::Cold => "cache cold",
                    Kept::Warm => "cache warm",
                };
                write!(f, " ({} variants, {kept})", self.variants)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_an_absent_step_is_not_shown() {
        let mut s = Startup { adapter: 0.5, pipelines: 0.25, variants: 3, kept: Kept::Warm, ..Default::default() };
        assert!(!s.to_string().contains("first step"));
        s.first_step = Some(1.25);
        let line = "start: 2.00 s = adapter 0.50, plan 0.00, buffers 0.00, pipelines 0.25 (3 variants, cache warm), \
                    bind groups 0.00, first step 1.25";
        assert_eq!(s.to_string(), line);
    }
}
